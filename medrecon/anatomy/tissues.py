"""Names of tissues, their CT numbers and their relaxation times."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Tissue(StrEnum):
    """What a part of the body is made of."""

    AIR = "air"
    LUNG = "lung"
    FAT = "fat"
    SKIN = "skin"
    MUSCLE = "muscle"
    CORTICAL = "cortical bone"
    MARROW = "marrow"
    DISC = "disc"
    FLUID = "cerebrospinal fluid"
    CORD = "cord"
    GREY = "grey matter"
    WHITE = "white matter"
    DEEP_GREY = "deep grey matter"
    EYE = "vitreous humour"
    ARTERY = "arterial blood"
    VEIN = "venous blood"
    LUNG_VESSEL = "pulmonary vessel"
    HEART = "myocardium"
    LIVER = "liver"
    SPLEEN = "spleen"
    PANCREAS = "pancreas"
    CORTEX = "renal cortex"
    MEDULLA = "renal medulla"
    BOWEL = "bowel wall"
    CHYME = "bowel content"
    CONTRAST = "oral contrast"
    GAS = "gas"
    URINE = "urine"
    GLAND = "gland"


class Hounsfield(NamedTuple):
    """CT number in HU: mean over patients and spread between them."""

    mean: float
    spread: float


class Relaxation(NamedTuple):
    """Proton density (water 1), T1 and T2 in ms at 1.5 to 3 T."""

    density: float
    t1: float
    t2: float


HOUNSFIELD: dict[Tissue, Hounsfield] = {
    Tissue.AIR: Hounsfield(-1000, 0),
    Tissue.LUNG: Hounsfield(-850, 40),
    Tissue.FAT: Hounsfield(-100, 8),
    Tissue.SKIN: Hounsfield(10, 25),
    Tissue.MUSCLE: Hounsfield(52, 9),
    Tissue.CORTICAL: Hounsfield(950, 180),
    Tissue.MARROW: Hounsfield(190, 60),
    Tissue.DISC: Hounsfield(85, 15),
    Tissue.FLUID: Hounsfield(12, 5),
    Tissue.CORD: Hounsfield(38, 6),
    Tissue.GREY: Hounsfield(38, 3),
    Tissue.WHITE: Hounsfield(28, 3),
    Tissue.DEEP_GREY: Hounsfield(36, 3),
    Tissue.EYE: Hounsfield(8, 4),
    Tissue.ARTERY: Hounsfield(45, 5),
    Tissue.VEIN: Hounsfield(42, 5),
    Tissue.LUNG_VESSEL: Hounsfield(40, 10),
    Tissue.HEART: Hounsfield(50, 8),
    Tissue.LIVER: Hounsfield(58, 12),
    Tissue.SPLEEN: Hounsfield(50, 8),
    Tissue.PANCREAS: Hounsfield(42, 10),
    Tissue.CORTEX: Hounsfield(35, 5),
    Tissue.MEDULLA: Hounsfield(30, 5),
    Tissue.BOWEL: Hounsfield(40, 10),
    Tissue.CHYME: Hounsfield(15, 20),
    Tissue.CONTRAST: Hounsfield(320, 110),
    Tissue.GAS: Hounsfield(-960, 30),
    Tissue.URINE: Hounsfield(6, 5),
    Tissue.GLAND: Hounsfield(30, 20),
}
"""Without contrast agent at 120 kV; what textbooks of CT give, rounded."""

ENHANCEMENT: dict[Tissue, tuple[float, float]] = {
    Tissue.ARTERY: (230, 100),
    Tissue.VEIN: (70, 130),
    Tissue.LUNG_VESSEL: (120, 60),
    Tissue.HEART: (45, 55),
    Tissue.LIVER: (15, 55),
    Tissue.SPLEEN: (60, 65),
    Tissue.PANCREAS: (50, 45),
    Tissue.CORTEX: (130, 130),
    Tissue.MEDULLA: (30, 110),
    Tissue.BOWEL: (30, 40),
    Tissue.MUSCLE: (5, 10),
    Tissue.GLAND: (30, 30),
}
"""HU that a contrast agent adds in the arterial and in the portal venous phase."""

RELAXATION: dict[Tissue, Relaxation] = {
    Tissue.AIR: Relaxation(0.0, 1000, 50),
    Tissue.LUNG: Relaxation(0.10, 1200, 30),
    Tissue.FAT: Relaxation(0.95, 350, 75),
    Tissue.SKIN: Relaxation(0.65, 600, 30),
    Tissue.MUSCLE: Relaxation(0.85, 1150, 42),
    Tissue.CORTICAL: Relaxation(0.05, 300, 5),
    Tissue.MARROW: Relaxation(0.75, 450, 55),
    Tissue.DISC: Relaxation(0.80, 1100, 90),
    Tissue.FLUID: Relaxation(1.00, 4000, 1600),
    Tissue.CORD: Relaxation(0.72, 900, 76),
    Tissue.GREY: Relaxation(0.82, 1400, 98),
    Tissue.WHITE: Relaxation(0.70, 900, 71),
    Tissue.DEEP_GREY: Relaxation(0.78, 1150, 78),
    Tissue.EYE: Relaxation(1.00, 3500, 1000),
    Tissue.ARTERY: Relaxation(0.35, 1650, 200),
    Tissue.VEIN: Relaxation(0.60, 1650, 120),
    Tissue.LUNG_VESSEL: Relaxation(0.50, 1600, 150),
    Tissue.HEART: Relaxation(0.80, 1200, 48),
    Tissue.LIVER: Relaxation(0.78, 690, 42),
    Tissue.SPLEEN: Relaxation(0.85, 1150, 75),
    Tissue.PANCREAS: Relaxation(0.80, 660, 45),
    Tissue.CORTEX: Relaxation(0.82, 1050, 82),
    Tissue.MEDULLA: Relaxation(0.88, 1450, 88),
    Tissue.BOWEL: Relaxation(0.80, 1000, 60),
    Tissue.CHYME: Relaxation(0.85, 1500, 150),
    Tissue.CONTRAST: Relaxation(0.60, 800, 80),
    Tissue.GAS: Relaxation(0.0, 1000, 50),
    Tissue.URINE: Relaxation(1.00, 3500, 800),
    Tissue.GLAND: Relaxation(0.85, 900, 60),
}
"""Rounded between 1.5 and 3 T; tissues named there are from Stanisz et al., T1, T2 relaxation and
magnetization transfer in tissue at 3T, MRM 54 (2005), doi:10.1002/mrm.20605, and from de Bazelaire
et al., Radiology 230 (2004), doi:10.1148/radiol.2303021331."""
