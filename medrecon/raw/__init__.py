"""From single readouts, as scanners store them, to studies: sorted, corrected, placed."""
