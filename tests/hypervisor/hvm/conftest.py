"""Makes the stand-ins beside this file importable by its tests."""
