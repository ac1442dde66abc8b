"""Pure functions on tensors: any layout, dtype, device and batch becomes uint8 [N, H, W, 3]. No RL library."""

from vidrec.frames.entries import Entries as Entries
from vidrec.frames.entries import Look as Look
from vidrec.frames.entries import arrange as arrange
from vidrec.frames.layout import Reading as Reading
from vidrec.frames.layout import Stack as Stack
from vidrec.frames.layout import agents_in as agents_in
from vidrec.frames.layout import check_layout as check_layout
from vidrec.frames.pixels import Colours as Colours
from vidrec.frames.pixels import by_agent as by_agent
from vidrec.frames.pixels import center_crop as center_crop
from vidrec.frames.pixels import grid as grid
from vidrec.frames.pixels import is_black as is_black
from vidrec.frames.pixels import side_by_side as side_by_side
from vidrec.frames.pixels import spaced as spaced
from vidrec.frames.pixels import take as take
from vidrec.frames.pixels import to_rgb as to_rgb
from vidrec.frames.reading import Found as Found
from vidrec.frames.reading import readings as readings
from vidrec.frames.transfer import Arriving as Arriving
from vidrec.frames.videos import as_video as as_video
