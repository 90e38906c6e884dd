"""Makes the stand-ins beside this file importable by the tests of all services."""
