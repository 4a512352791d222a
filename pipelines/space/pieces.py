"""Pieces of HTML that the app shows: small pictures, enlarged without smoothing, with their labels."""

import base64
import html
import io

import matplotlib as mpl
from PIL import Image

from fdae_diffusers.visualization.figures import concept_colors

CSS = """
.gradio-container { max-width: 1180px !important; margin: auto !important;
  overflow: clip !important; }  /* hidden would keep the result from sticking */
.html-container { padding: 0 !important; }
.pixels { width: 100%; aspect-ratio: 1; border-radius: 6px; display: block; margin: 0 !important; }
.pixels, .thumbnails img { image-rendering: pixelated; }
.pair { display: flex; gap: 8px; }
.pair figure { flex: 1; margin: 0; min-width: 0; }
.pair figcaption { font-size: 12px; text-align: center; opacity: 0.75; margin-top: 2px; }
.thumbnails { border: none !important; background: none !important; box-shadow: none !important; }
.thumbnails .gallery-container, .thumbnails .grid-wrap { padding: 0 !important; height: auto !important;
  min-height: 0 !important; max-height: none !important; }
.thumbnails .grid-container { grid-template-columns: repeat(var(--grid-cols), minmax(0, 1fr)) !important; padding: 2px;
  gap: 6px; }
.thumbnails .thumbnail-lg { aspect-ratio: auto !important; height: auto !important; }
.thumbnails .caption-label { position: static; max-width: none; border: none; background: none; font-size: 13px; }
.nameless .caption-label { display: none; }
.concepts { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr));
  gap: 10px !important; }
.concept { border: 1px solid var(--border-color-primary); border-radius: 10px; overflow: hidden;
  min-width: 0 !important; padding: 0 10px 10px !important; gap: 4px !important;
  background: var(--block-background-fill); }
.concept-name { margin: 0 -10px 8px; padding: 4px 10px; color: white; font-weight: 600; text-shadow: 0 0 3px #0008; }
.concept .block, .concept .form { border: none !important; padding: 0 !important; background: none !important;
  box-shadow: none !important; min-width: 0 !important; }
.hint { font-size: 12px; opacity: 0.75; }
.hint p { font-size: 12px !important; line-height: 1.3; }
#desk { align-items: flex-start; }
#shown { position: sticky; top: 8px; z-index: 20; }
#result figure, #grid figure { margin: 0; }
#result .pixels { max-width: 380px; }
#result figcaption, #grid figcaption { font-size: 13px; min-height: 3em; margin-top: 4px; }
#status { min-height: 28px; position: relative; }
@media (max-width: 760px) {
  #desk { flex-direction: column !important; flex-wrap: nowrap !important; }
  #desk > * { width: 100% !important; min-width: 0 !important; flex: none !important; }
  #desk .column, #desk .row, .contain, .contain > .column { min-width: 0 !important; max-width: 100%; }
  #sides { flex-wrap: nowrap !important; }
  #sides > .column { flex: 1 1 0 !important; }
  #sides .pair { flex-direction: column; }
  #sides .thumbnails .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
  #examples .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  #shown { order: -1; top: 0; gap: 2px !important; padding: 6px 0; background: var(--body-background-fill);
    border-bottom: 1px solid var(--border-color-primary); }
  #shown .title { display: none; }
  #result figure { display: flex; gap: 10px; align-items: center; }
  #result .pixels { width: min(42vw, 34vh); flex: none; }
  .concepts { grid-template-columns: 1fr; }
  .concept .pair { max-width: 240px; }
}
"""


def pair_html(*labelled: tuple[Image.Image, str]) -> str:
    """Pictures side by side, each above its label."""
    figures = "".join(
        f"<figure>{_picture_html(picture, label)}<figcaption>{html.escape(label)}</figcaption></figure>"
        for picture, label in labelled
    )
    return f'<div class="pair">{figures}</div>'


def concept_html(number: int, num_concepts: int, of_a: Image.Image, of_b: Image.Image) -> str:
    """What one concept covers in both images, under its number in its colour."""
    color = mpl.colors.to_hex(concept_colors(num_concepts)[number])
    name = f'<div class="concept-name" style="background:{color}">concept {number}</div>'
    figures = pair_html((of_a, f"concept {number} in A"), (of_b, f"concept {number} in B"))
    return name + figures


def result_html(picture: Image.Image, text: str, file_name: str) -> str:
    """A picture above a line about it and a link to download it under a name."""
    data = _data_url(picture)
    link = f'<a href="{data}" download="{html.escape(file_name)}">Download PNG</a>'
    image = f'<img class="pixels" alt="{html.escape(text)}" src="{data}">'
    return f"<figure>{image}<figcaption>{html.escape(text)}<br>{link}</figcaption></figure>"


def _picture_html(picture: Image.Image, alt: str) -> str:
    return f'<img class="pixels" alt="{html.escape(alt)}" src="{_data_url(picture)}">'


def _data_url(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
