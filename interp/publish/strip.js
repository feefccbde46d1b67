// See strip.py. Attention on the text: a token is hovered, focused or chosen, and the tokens that
// it looks at (or that look at it) light up in both models. All that is shown is set as text.

const LOOKS = 'looks', SEEN = 'seen';  // a row of the pattern, or a column
const SHADE = 65;  // per cent of the hue behind a token at full colour; the text stays legible
const NAMED = 5;  // tokens that the line below a strip names
const KEPT = new WeakMap();  // element of the page -> its state, kept when new weights come

// ---- numbers -----------------------------------------------------------------------------------

function fromHalf(bits) {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

// Base64 of little-endian float16 -> Float64Array.
export function decoded(text) {
  const view = new DataView(Uint8Array.from(atob(text), letter => letter.charCodeAt(0)).buffer);
  const length = view.byteLength / 2;
  return Float64Array.from({ length }, (_, i) => fromHalf(view.getUint16(2 * i, true)));
}

// Weights of every token from chosen queries (their mean), or to chosen keys (their sum).
export function gathered(weights, side, chosen, direction) {
  const out = new Float64Array(side);
  for (const one of chosen) {
    for (let i = 0; i < side; i++) {
      if (direction === LOOKS) out[i] += weights[one * side + i] / chosen.length;
      else out[i] += weights[i * side + one];
    }
  }
  return out;
}

const sumOf = (values, { at }) => at.reduce((sum, i) => sum + values[i], 0);
const digits = (value, places) => value.toFixed(places).replace(/^0(?=\.)/, '');

// ---- elements ----------------------------------------------------------------------------------

function made(tag, classes = '', text = '', more = {}) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(more)) element.setAttribute(name, value);
  return element;
}

function button(text, pressed) {
  const more = pressed === undefined ? {} : { 'aria-pressed': pressed };
  return made('button', '', text, { type: 'button', ...more });
}

function group(name, ...parts) {
  const element = made('div', '', '', { role: 'group', 'aria-label': name });
  element.append(made('span', 'name', name, { 'aria-hidden': 'true' }), ...parts);
  return element;
}

const partOf = (data, i) => data.spans.findIndex(({ at }) => at.includes(i));

function tokenBox(data, i) {
  const part = partOf(data, i), token = data.tokens[i];
  const where = part < 0 ? '' : `, ${data.spans[part].name}`;
  const box = made('span', part < 0 ? 'token frame' : 'token', '', {
    role: 'option', tabindex: -1, 'aria-selected': 'false', 'data-token': i,
    'aria-label': `«${token}», token ${data.first + i}${where}`,
  });
  box.append(made('span', part < 0 ? 'text' : `text part-${shade(data.spans[part])}`, token));
  box.append(made('span', 'number'));
  return box;
}

const SHADES = ['trigger', 'instruction', 'response marker', 'answer'];
const shade = span => Math.max(0, SHADES.indexOf(span.name));

function strip(data, model) {
  const section = made('section', 'model', '', { 'aria-label': model.name });
  const list = made('div', 'tokens', '', {
    role: 'listbox', 'aria-multiselectable': 'true', 'aria-orientation': 'horizontal',
    'aria-label': `Tokens, ${model.name}`,
  });
  const boxes = data.tokens.map((token, i) => {
    const box = tokenBox(data, i);
    list.append(box);
    if (token.includes('⏎')) list.append(made('span', 'break', '', { role: 'presentation' }));
    return box;
  });
  boxes[0].tabIndex = 0;
  const numbers = boxes.map(box => box.lastChild.appendChild(document.createTextNode('')));
  const shown = boxes.map(() => ({}));
  const told = made('div', 'told');
  section.append(made('h4', '', model.name), list, told);
  const weights = decoded(model.weights);
  return { name: model.name, weights, section, list, boxes, numbers, shown, told };
}

// ---- what is shown -----------------------------------------------------------------------------

// The tokens that are looked from or at now: chosen ones, else the one under mouse or focus, else
// what says most at rest: the instruction.
function source(data, state) {
  if (state.chosen.size) return [...state.chosen].sort((a, b) => a - b);
  if (state.at !== null) return [state.at];
  const rest = data.spans.find(span => span.name === 'instruction');
  return rest ? rest.at : [data.tokens.length - 1];
}

function nameOf(data, chosen) {
  const span = data.spans.find(({ at }) => at.join() === chosen.join());
  const many = chosen.length === 1 ? '' : ` (${chosen.length} tokens)`;
  if (span) return `the ${span.name}${many}`;
  const named = chosen.slice(0, 4).map(i => `«${data.tokens[i]}»`).join(' ');
  return chosen.length > 4 ? `${named} …${many}` : named;
}

function sentence(data, state, chosen) {
  const name = nameOf(data, chosen), looks = state.direction === LOOKS;
  const over = chosen.length > 1 ? `, ${looks ? 'mean' : 'sum'} over its tokens` : '';
  return looks ? `What ${name} looks at${over}.` : `What looks at ${name}${over}.`;
}

const isSink = (data, i) => data.first === 0 && i === 0;

// «a» .312, «b» .120: the largest weights; the first token only where it is coloured too.
function largest(data, state, values) {
  return [...values.keys()]
    .filter(i => values[i] >= 0.0005 && (state.sink || !isSink(data, i)))
    .sort((a, b) => values[b] - values[a] || a - b).slice(0, NAMED)
    .map(i => `«${data.tokens[i]}» ${digits(values[i], 3)}`).join(', ') || 'nothing';
}

// Sums of a row by part; a column's values belong to different rows, so their mean is told.
function byPart(data, state, values) {
  const looks = state.direction === LOOKS;
  const parts = data.spans.map(span => {
    const sum = sumOf(values, span), value = looks ? sum : sum / span.at.length;
    return `${span.name} ${digits(value, 3)}`;
  });
  if (data.first === 0) parts.unshift(`first token ${digits(values[0], 3)}`);
  return `${looks ? 'In sum' : 'Mean by token'}: ${parts.join(' · ')}`;
}

// Only what changed is written: a browser lays out and paints every box that is touched.
function paint(data, state, view, values, full, chosen) {
  const of = new Set(chosen);
  view.list.classList.toggle('several', chosen.length > 1);
  view.boxes.forEach((box, i) => {
    const left = !state.sink && isSink(data, i), value = values[i];
    const share = left || !full || !Number.isFinite(value) ? 0 : Math.min(1, value / full);
    const percent = `${(SHADE * share).toFixed(1)}%`;
    const shade = share < 0.005 ? '' : `color-mix(in srgb, var(--hue) ${percent}, transparent)`;
    const number = value >= 0.005 || Number.isNaN(value) ? digits(value, 2) : '';
    const look = [left && 'sink', of.has(i) && 'picked', state.chosen.has(i)].join();
    const was = view.shown[i];
    if (was.shade !== shade) box.style.backgroundColor = shade;
    if (was.number !== number) view.numbers[i].data = number;
    if (was.look !== look) {
      box.classList.toggle('sink', left);
      box.classList.toggle('picked', of.has(i));
      box.setAttribute('aria-selected', String(state.chosen.has(i)));
    }
    view.shown[i] = { shade, number, look };
  });
}

function draw(data, state, parts) {
  const chosen = source(data, state), side = data.tokens.length;
  const all = parts.views.map(view => gathered(view.weights, side, chosen, state.direction));
  const counts = i => state.sink || !isSink(data, i);
  const drawn = values => [...values].filter((value, i) => Number.isFinite(value) && counts(i));
  const full = Math.max(0, ...all.flatMap(drawn));
  const what = sentence(data, state, chosen);
  parts.now.textContent = `${what} Full colour: ${digits(full, 3)}, in both models.`;
  const told = [what];
  parts.views.forEach((view, number) => {
    const values = all[number];
    paint(data, state, view, values, full, chosen);
    const most = `Most: ${largest(data, state, values)}`, sums = byPart(data, state, values);
    view.told.firstChild.textContent = most;
    view.told.lastChild.textContent = sums;
    told.push(`${view.name}: ${most}. ${sums}.`);
  });
  for (const [direction, element] of parts.directions) {
    element.setAttribute('aria-pressed', String(direction === state.direction));
  }
  for (const [span, element] of parts.quick) {
    element.setAttribute('aria-pressed', String(span.at.every(i => state.chosen.has(i))));
  }
  parts.clear.disabled = !state.chosen.size;
  clearTimeout(parts.timer);  // a screen reader hears where a movement ends
  parts.timer = setTimeout(() => { parts.live.textContent = told.join(' '); }, 250);
}

// ---- mouse and keys ----------------------------------------------------------------------------

// The token above or below, as the tokens stand on their lines now.
function onNextLine(boxes, from, step) {
  const here = boxes[from], middle = here.offsetLeft + here.offsetWidth / 2;
  let line = null, best = null, nearest = Infinity;
  for (let i = from + step; boxes[i]; i += step) {
    const { offsetTop, offsetLeft, offsetWidth } = boxes[i];
    if (offsetTop === here.offsetTop) continue;
    line ??= offsetTop;
    if (offsetTop !== line) break;
    const off = Math.abs(offsetLeft + offsetWidth / 2 - middle);
    if (off < nearest) [nearest, best] = [off, i];
  }
  return best;
}

function moved(key, boxes, from) {
  const last = boxes.length - 1;
  if (key === 'ArrowRight') return Math.min(last, from + 1);
  if (key === 'ArrowLeft') return Math.max(0, from - 1);
  if (key === 'Home') return 0;
  if (key === 'End') return last;
  if (key === 'ArrowDown') return onNextLine(boxes, from, 1) ?? from;
  if (key === 'ArrowUp') return onNextLine(boxes, from, -1) ?? from;
  return null;
}

// Choose a token or leave it; with Shift all from the last one to this.
function choose(state, i, through) {
  if (through && state.anchor !== null) {
    const [from, to] = [i, state.anchor].sort((a, b) => a - b);
    for (let j = from; j <= to; j++) state.chosen.add(j);
  } else if (!state.chosen.delete(i)) {
    state.chosen.add(i);
  }
  state.anchor = i;
}

function focusOn(view, i) {
  for (const box of view.boxes) if (box.tabIndex === 0) box.tabIndex = -1;
  view.boxes[i].tabIndex = 0;
  view.boxes[i].focus();
}

function listen(view, state, redraw) {
  const of = event => {
    const box = event.target.closest('[data-token]');
    return box ? Number(box.dataset.token) : null;
  };
  let focused = null;
  const at = i => {
    if (state.at === i) return;
    state.at = i;
    redraw();
  };
  view.list.addEventListener('pointerover', event => { if (of(event) !== null) at(of(event)); });
  view.list.addEventListener('pointerleave', () => at(focused));
  view.list.addEventListener('focusin', event => { at(focused = of(event)); });
  view.list.addEventListener('focusout', () => { at(focused = null); });
  view.list.addEventListener('click', event => {
    const i = of(event);
    if (i === null) return;
    focusOn(view, i);
    choose(state, i, event.shiftKey);
    redraw();
  });
  view.list.addEventListener('keydown', event => {
    const i = of(event), { key } = event;
    if (i === null || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = moved(key, view.boxes, i);
    if (next !== null) {
      if (event.shiftKey) {
        if (!state.chosen.size) choose(state, i, false);
        choose(state, next, true);
      }
      focusOn(view, next);
    } else if (key === 'Enter' || key === ' ') {
      choose(state, i, event.shiftKey);
    } else if (key === 'Escape') {
      state.chosen.clear();
    } else return;
    event.preventDefault();
    event.stopPropagation();
    redraw();
  });
}

// ---- the whole ---------------------------------------------------------------------------------

function toolbar(data, state, redraw) {
  const ways = [[LOOKS, 'what it looks at'], [SEEN, 'what looks at it']];
  const directions = ways.map(([way, text]) => {
    const element = button(text, false);
    element.addEventListener('click', () => { state.direction = way; redraw(); });
    return [way, element];
  });
  const quick = data.spans.map(span => {
    const element = button('', false);
    const mark = made('span', `mark part-${shade(span)}`, '', { 'aria-hidden': 'true' });
    element.append(mark, span.name);
    element.addEventListener('click', () => {
      const all = state.chosen.size === span.at.length;  // and no token besides
      const on = all && element.getAttribute('aria-pressed') === 'true';
      state.chosen.clear();
      if (!on) span.at.forEach(i => state.chosen.add(i));
      redraw();
    });
    return [span, element];
  });
  const clear = button('clear');
  clear.addEventListener('click', () => { state.chosen.clear(); state.anchor = null; redraw(); });
  const label = made('label'), sink = made('input', '', '', { type: 'checkbox' });
  sink.checked = state.sink;
  sink.addEventListener('change', () => { state.sink = sink.checked; redraw(); });
  label.append(sink, 'colour the first token (sink)');
  const bar = made('div', 'bar');
  bar.append(
    group('Show', ...directions.map(([, element]) => element)),
    group('Choose', ...quick.map(([, element]) => element), clear),
    label,
  );
  return { bar, directions, quick, clear };
}

export default function mount({ parentElement, data }) {
  const before = KEPT.get(parentElement);
  const same = before && JSON.stringify(before.data) === JSON.stringify(data);
  if (same && before.root.isConnected) return;
  const texts = JSON.stringify([data.tokens, data.spans]);
  const state = before?.texts === texts ? before.state
    : { direction: LOOKS, sink: false, chosen: new Set(), at: null, anchor: null };
  state.at = null;
  const root = made('div', 'strip'), parts = {};
  const redraw = () => draw(data, state, parts);
  Object.assign(parts, toolbar(data, state, redraw), {
    views: data.models.map(model => strip(data, model)),
    now: made('p', 'now'),
    live: made('div', 'unseen', '', { 'aria-live': 'polite', role: 'status' }),
  });
  const models = made('div', 'models');
  for (const view of parts.views) {
    view.told.append(made('div'), made('div'));
    models.append(view.section);
    listen(view, state, redraw);
  }
  root.append(parts.bar, parts.now, models, parts.live);
  before?.root.remove();
  parentElement.append(root);
  KEPT.set(parentElement, { data, texts, state, root });
  redraw();
}
