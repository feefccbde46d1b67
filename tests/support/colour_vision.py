"""How colours look to the colour-blind and in grey print.

Machado, Oliveira and Fernandes 2009 (doi 10.1109/TVCG.2009.113), severity 1.0, on linear sRGB;
CIELAB with D65. Distances are CIE76 Delta E: about 2.3 is just noticeable.
"""

import numpy as np
from plotly import colors

MACHADO = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def rgb(colour: str) -> np.ndarray:
    """`#RRGGBB` or `rgb(...)` -> [3], 0 to 1."""
    if colour.startswith("rgb"):
        return np.array(colors.unlabel_rgb(colour)) / 255
    return np.array(colors.hex_to_rgb(colour)) / 255


def seen(colour: np.ndarray, kind: str) -> np.ndarray:
    """A colour as seen with one of the kinds of colour-blindness."""
    return _gamma(np.clip(np.array(MACHADO[kind]) @ _linear(colour), 0, 1))


def lab(colour: np.ndarray) -> np.ndarray:
    """sRGB -> CIELAB; the first number is the lightness, the only one that grey print keeps."""
    ratio = (_XYZ @ _linear(colour)) / _XYZ.sum(1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Delta E (CIE76)."""
    return float(np.linalg.norm(lab(first) - lab(second)))


def _linear(colour: np.ndarray) -> np.ndarray:
    return np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)


def _gamma(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
