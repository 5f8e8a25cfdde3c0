"""Machine code needs the emulator, which is an extra."""

import pytest

pytest.importorskip("unicorn", reason="the extra `cpu` is not installed")
