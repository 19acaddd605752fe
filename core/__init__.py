"""Pure functions on arrays, numbers and bytes: bases, exact merge, formats, signatures. No I/O."""
