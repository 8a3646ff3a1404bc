"""What to do with a scan: a frozen tree of settings, every field with its unit in its name.

The tree holds no tensors and no data.  :func:`medrecon.protocol_files.load_protocol` reads it from
strict YAML.
"""

from medrecon.protocol.corrections import BeamHardening, Counts, Rings, TiffImages
from medrecon.protocol.methods import METHODS, Baseline
from medrecon.protocol.mr import CartesianScan, CoilCompression, CoilMaps, NonCartesianScan
from medrecon.protocol.safety import Adaptation, Safety
from medrecon.protocol.sampling import ConjugateGradients, Noise, Prior, Sampler, TVz
from medrecon.protocol.scans import (
    ConeScan,
    CTScan,
    FanScan,
    HelicalScan,
    MRScan,
    ParallelRowsScan,
    ParallelScan,
    VectorsScan,
)
from medrecon.protocol.whole import GridSettings, Output, Part, Preview, Protocol

__all__ = [
    "METHODS",
    "Adaptation",
    "Baseline",
    "BeamHardening",
    "CTScan",
    "CartesianScan",
    "CoilCompression",
    "CoilMaps",
    "ConeScan",
    "ConjugateGradients",
    "Counts",
    "FanScan",
    "GridSettings",
    "HelicalScan",
    "MRScan",
    "Noise",
    "NonCartesianScan",
    "Output",
    "ParallelRowsScan",
    "ParallelScan",
    "Part",
    "Preview",
    "Prior",
    "Protocol",
    "Rings",
    "Safety",
    "Sampler",
    "TVz",
    "TiffImages",
    "VectorsScan",
]
