"""Pieces of HTML that the app shows: small pictures, enlarged without smoothing, with their labels."""

import base64
import html
import io

import matplotlib as mpl
from PIL import Image

from fdae_diffusers.visualization.figures import concept_colors

CSS = """
.gradio-container { max-width: 1180px !important; margin: auto !important; }
.html-container { padding: 0 !important; }
.pixels { width: 100%; aspect-ratio: 1; border-radius: 6px; display: block; margin: 0 !important; }
.pixels, #result img, #grid img, .thumbnails img { image-rendering: pixelated; }
.pair { display: flex; gap: 8px; }
.pair figure { flex: 1; margin: 0; min-width: 0; }
.pair figcaption { font-size: 12px; text-align: center; opacity: 0.75; margin-top: 2px; }
.thumbnails { border: none !important; background: none !important; box-shadow: none !important; }
.thumbnails .gallery-container, .thumbnails .grid-wrap { padding: 0 !important; height: auto !important;
  min-height: 0 !important; max-height: none !important; }
.thumbnails .grid-container { grid-template-columns: repeat(var(--grid-cols), 1fr) !important; padding: 2px;
  gap: 6px; }
.thumbnails .thumbnail-lg { aspect-ratio: auto !important; height: auto !important; }
.thumbnails .caption-label { position: static; max-width: none; border: none; background: none; font-size: 13px; }
.concepts { gap: 10px !important; }
.concept { border: 1px solid var(--border-color-primary); border-radius: 10px; overflow: hidden; max-width: 280px;
  padding: 0 10px 10px !important; gap: 8px !important; background: var(--block-background-fill); }
.concept-name { margin: 0 -10px 8px; padding: 4px 10px; color: white; font-weight: 600; }
.concept .block, .concept .form, .concept fieldset { border: none !important; padding: 0 !important;
  background: none !important; box-shadow: none !important; min-width: 0 !important; overflow: visible !important; }
.concept .wrap { gap: 6px !important; background: none !important; }
.concept .wrap label { flex: 1; padding: 4px 8px !important; box-shadow: none !important;
  border: 1px solid var(--border-color-primary) !important; }
#result { max-width: 380px; }
#result .image-frame, #result img { width: 100% !important; height: auto !important; border-radius: 6px; }
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
    return name + pair_html((of_a, "in A"), (of_b, "in B"))


def _picture_html(picture: Image.Image, alt: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="pixels" alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
