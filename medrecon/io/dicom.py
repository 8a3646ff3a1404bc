"""DICOM series in and out; the one name other rooms import."""

from medrecon.io.dicom_attributes import with_uids
from medrecon.io.dicom_read import is_dicom, read_dicom_series
from medrecon.io.dicom_write import DerivedSeries, write_dicom_series

__all__ = ["DerivedSeries", "is_dicom", "read_dicom_series", "with_uids", "write_dicom_series"]
