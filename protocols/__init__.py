"""Protocol files shipped with medrecon."""
