// Attention on the text. The files of this folder are one script, joined by strip.py: a token is
// hovered, focused or chosen, and the tokens that it looks at (or that look at it) light up in both
// models; two spans are chosen, and what the one gives the other is told. All text is set as text.

const LOOKS = 'looks', SEEN = 'seen';  // a row of the pattern, or a column
const SPANS = 'spans';  // a rectangle of it
const SIDES = ['from', 'to'];  // of a span to span: the queries, the keys
const CALLED = { from: 'From', to: 'To' };

function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

let HALVES = null;  // every half precision number, by its bits

// Base64 of little-endian float16 -> Float32Array, which holds each of them exactly.
export function decoded(text) {
  HALVES ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => fromHalf(bits));
  const bytes = atob(text), out = new Float32Array(bytes.length / 2);
  for (let i = 0; i < out.length; i++) {
    out[i] = HALVES[bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8)];
  }
  return out;
}

// Rows up to the diagonal, one behind the other -> [side, side], row by row.
export function squared(lower, side) {
  const out = new Float32Array(side * side);
  for (let row = 0, at = 0; row < side; at += ++row) {
    out.set(lower.subarray(at, at + row + 1), row * side);
  }
  return out;
}

// Weights of every token from chosen queries (their mean), or to chosen keys (their sum).
export function gathered(weights, side, chosen, direction) {
  const out = new Float64Array(side);
  for (const one of chosen) {
    for (let i = 0; i < side; i++) {
      if (direction === SEEN) out[i] += weights[i * side + one];
      else out[i] += weights[one * side + i] / chosen.length;
    }
  }
  return out;
}

// Mean weight of a pair of a query and a key, as in L_attn; no number if a side has no token.
export function between(weights, side, from, to) {
  let sum = 0;
  for (const query of from) for (const key of to) sum += weights[query * side + key];
  return sum / (from.length * to.length);
}

const sumOf = (values, { at }) => at.reduce((sum, i) => sum + values[i], 0);
const digits = (value, places) => value.toFixed(places).replace(/^(-?)0(?=\.)/, '$1');
const signed = (value, places) => (value > 0 ? '+' : '') + digits(value, places).replace('-', '−');
