// See sentence.py. Arcs above the tokens are the original's, those below the suspect's. The trigger
// is dragged, or moved by keys on its handle, and Python is told the gap. All is set as text.

const TRAY = -1, ROOM = 38;  // height in pixels that an arc may take
const KEPT = new WeakMap();  // element of the page -> what stands in it
const SVG = 'http://www.w3.org/2000/svg';

function made(tag, classes = '', text = '', more = {}) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(more)) element.setAttribute(name, value);
  return element;
}

const spanOf = (data, name) => data.spans.find(span => span.name === name)?.at ?? [];

function where(data, place) {
  if (place === TRAY) return 'in the tray';
  const word = data.words[place];
  return word === undefined ? 'behind the last word' : `before «${word}»`;
}

// ---- tokens ------------------------------------------------------------------------------------

function tokenBox(data, i, own) {
  const token = data.tokens[i];
  return made('span', own ? 'token' : 'token frame', token, {
    role: 'button', tabindex: -1, 'aria-pressed': 'false', 'data-token': i,
    'aria-label': `«${token}», token ${data.first + i}`,
  });
}

function handleOf(data) {
  return made('span', 'handle', '⠿', {
    role: 'slider', tabindex: 0, 'aria-valuemin': TRAY, 'aria-valuemax': data.words.length,
    'aria-valuenow': data.place, 'aria-valuetext': where(data, data.place),
    'aria-label': 'Trigger. Arrows, Home and End move it between words, Delete lifts it out',
  });
}

function lay(data, parts) {
  const triggered = new Set(spanOf(data, 'trigger'));
  const own = new Set([...triggered, ...spanOf(data, 'instruction')]);
  const [first, end] = [data.gaps[0], data.gaps.at(-1)];
  parts.trigger = made('span', 'trigger');
  parts.handle = handleOf(data);
  parts.trigger.append(parts.handle);
  parts.boxes = [];
  parts.gaps = [];
  const gapsBefore = i => {
    data.gaps.forEach((at, gap) => {
      if (at !== i || gap === data.place) return;
      parts.gaps.push([gap, parts.prompt.appendChild(made('span', 'gap', '', { 'data-gap': gap }))]);
    });
  };
  data.tokens.forEach((_, i) => {
    if (!triggered.has(i)) gapsBefore(i);
    const box = tokenBox(data, i, own.has(i) || (i >= first && i < end));
    parts.boxes.push(box);
    if (triggered.has(i)) {
      parts.trigger.append(box);
      if (!parts.trigger.isConnected) parts.prompt.append(parts.trigger);
    } else parts.prompt.append(box);
  });
  gapsBefore(data.tokens.length);
  if (data.place === TRAY) {
    parts.trigger.append(made('span', 'token', data.trigger));
    parts.tray.append(parts.trigger);
  }
  parts.boxes.at(-1).tabIndex = 0;
}

// ---- arcs --------------------------------------------------------------------------------------

function middle(box, frame) {
  const { left, top, width, height } = box.getBoundingClientRect();
  return { x: left - frame.left + width / 2, top: top - frame.top, end: top - frame.top + height };
}

function arc(from, to, above) {
  const [a, b] = above ? [from.top, to.top] : [from.end, to.end];
  const high = Math.min(ROOM, 10 + Math.abs(from.x - to.x) * 0.12) * 4 / 3 * (above ? -1 : 1);
  return `M${from.x},${a} C${from.x},${a + high} ${to.x},${b + high} ${to.x},${b}`;
}

const said = (data, arcs) => arcs
  .map(([i, weight]) => `«${data.tokens[i]}» ${weight.toFixed(3).replace(/^0/, '')}`).join(', ') || 'nothing';

function draw(data, state, parts) {
  const at = state.pinned ?? state.at ?? data.tokens.length - 1;
  const { left, top } = parts.prompt.getBoundingClientRect();
  const frame = { left: left - parts.prompt.scrollLeft, top: top - parts.prompt.scrollTop };
  const spots = new Map();
  const spot = i => spots.get(i) ?? spots.set(i, middle(parts.boxes[i], frame)).get(i);
  const paths = [];
  data.models.forEach(({ name, arcs }, number) => {
    for (const [i, weight] of arcs[at]) {
      const path = document.createElementNS(SVG, 'path');
      path.setAttribute('class', number ? 'suspect' : 'original');
      path.setAttribute('d', arc(spot(at), spot(i), !number));
      path.setAttribute('stroke-width', (1 + 7 * weight).toFixed(2));
      paths.push(path);
    }
    parts.lines[number].textContent = `${name}: ${said(data, arcs[at])}`;
  });
  parts.svg.replaceChildren(...paths);
  parts.lines[2].textContent = `«${data.tokens[at]}» (token ${data.first + at}) looks at`;
  parts.shown?.classList.remove('at');
  parts.shown = parts.boxes[at];
  parts.shown.classList.add('at');
}

function tokenEvents(data, state, parts, redraw) {
  const of = event => {
    const box = event.target.closest('[data-token]');
    return box ? Number(box.dataset.token) : null;
  };
  const at = i => { if (state.at !== i) { state.at = i; redraw(); } };
  const { prompt, boxes } = parts;
  const go = i => {
    for (const box of boxes) if (box.tabIndex === 0) box.tabIndex = -1;
    boxes[i].tabIndex = 0;
    boxes[i].focus();
  };
  const pin = i => {
    boxes[state.pinned]?.setAttribute('aria-pressed', 'false');
    state.pinned = state.pinned === i ? null : i;
    boxes[state.pinned]?.setAttribute('aria-pressed', 'true');
    redraw();
  };
  prompt.addEventListener('pointerover', event => { if (of(event) !== null) at(of(event)); });
  prompt.addEventListener('pointerleave', () => at(null));
  prompt.addEventListener('focusin', event => at(of(event)));
  prompt.addEventListener('click', event => { if (of(event) !== null) pin(of(event)); });
  prompt.addEventListener('keydown', event => {
    const i = of(event), { key } = event, last = boxes.length - 1;
    if (i === null || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: last }[key];
    if (next !== undefined) go(Math.max(0, Math.min(last, next)));
    else if (key === 'Enter' || key === ' ') pin(i);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}

// ---- the trigger -------------------------------------------------------------------------------

function keysOf(data, state, move) {
  const last = data.words.length;
  return event => {
    const now = state.wanted, { key } = event;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const next = {
      ArrowRight: Math.min(last, now + 1), ArrowLeft: now === TRAY ? last : Math.max(0, now - 1),
      Home: 0, End: last, Delete: TRAY, Backspace: TRAY,
    }[key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move(next);
  };
}

const inside = ({ left, right, top, bottom }, x, y) =>
  x >= left && x <= right && y >= top && y <= bottom;

function nearest(parts, x, y) {
  if (inside(parts.tray.getBoundingClientRect(), x, y)) return TRAY;
  let best = null, least = 160;  // pixels: what is let go far away stays where it was
  for (const [gap, element] of [...parts.gaps]) {
    const { left, width, top, height } = element.getBoundingClientRect();
    const far = Math.abs(left + width / 2 - x) + 2 * Math.abs(top + height / 2 - y);
    if (far < least) [least, best] = [far, gap];
  }
  return best;
}

function drags(parts, move) {
  let from = null, over = null;
  const mark = place => {
    over = place;
    parts.tray.classList.toggle('over', place === TRAY);
    for (const [gap, element] of parts.gaps) element.classList.toggle('over', gap === place);
  };
  const end = dropped => {
    if (!from) return;
    const place = over, far = parts.trigger.classList.contains('held');
    from = null;
    mark(null);
    parts.trigger.classList.remove('held');
    parts.prompt.classList.remove('dragged');
    parts.trigger.style.transform = '';
    if (dropped && far && place !== null) move(place);
  };
  parts.trigger.addEventListener('pointerdown', event => {
    if (event.button) return;
    from = [event.clientX, event.clientY];
    parts.trigger.setPointerCapture(event.pointerId);
  });
  parts.trigger.addEventListener('pointermove', event => {
    if (!from) return;
    const [x, y] = [event.clientX - from[0], event.clientY - from[1]];
    if (Math.hypot(x, y) < 4 && !parts.trigger.classList.contains('held')) return;
    parts.trigger.classList.add('held');
    parts.prompt.classList.add('dragged');
    parts.trigger.style.transform = `translate(${x}px, ${y}px)`;
    mark(nearest(parts, event.clientX, event.clientY));
  });
  parts.trigger.addEventListener('pointerup', () => end(true));
  parts.trigger.addEventListener('pointercancel', () => end(false));
}

// ---- the whole ---------------------------------------------------------------------------------

function frameOf(data) {
  const root = made('div', 'sentence');
  const tray = made('div', 'tray', '', { role: 'group', 'aria-label': 'Tray' });
  tray.append(made('span', 'name', data.place === TRAY
    ? 'Tray. Drag the trigger into the text, or press an arrow key on it.'
    : 'Tray. Drop the trigger here to take it out, or press Delete on it.'));
  const key = made('div', 'key');
  for (const [text, hue] of [['above: original', '--calm'], ['below: suspect', '--hue']]) {
    const entry = key.appendChild(made('span', '', text));
    entry.style.setProperty('--of', `var(${hue})`);
  }
  const prompt = made('div', 'prompt', '', { role: 'group', 'aria-label': 'The prompt, token by token' });
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('aria-hidden', 'true');
  prompt.append(svg);
  const told = made('div', 'told'), live = made('div', 'unseen', '', { role: 'status', 'aria-live': 'polite' });
  const lines = [made('div'), made('div'), made('div')];
  told.append(lines[2], lines[0], lines[1]);
  const top = made('div', 'top');
  top.append(tray, key);
  root.append(top, prompt, told, live);
  return { root, tray, prompt, svg, lines, live };
}

export default function mount({ parentElement, data, setTriggerValue }) {
  const before = KEPT.get(parentElement);
  const text = JSON.stringify(data);
  if (before?.text === text && before.parts.root.isConnected) return;
  const focused = before && before.parts.handle.matches(':focus');
  const moving = before && before.state.wanted !== before.place && before.state.wanted !== data.place;
  const parts = frameOf(data);
  const state = { at: null, pinned: null, wanted: moving ? before.state.wanted : data.place };
  const redraw = () => draw(data, state, parts);
  const move = place => {
    if (place === state.wanted) return;
    state.wanted = place;
    parts.handle.setAttribute('aria-valuenow', place);
    parts.handle.setAttribute('aria-valuetext', where(data, place));
    parts.root.classList.add('waiting');
    setTriggerValue('moved', place);
  };
  before?.watch.disconnect();
  before?.parts.root.remove();
  parentElement.append(parts.root);
  lay(data, parts);
  parts.root.classList.toggle('waiting', Boolean(moving));
  tokenEvents(data, state, parts, redraw);
  parts.handle.addEventListener('keydown', keysOf(data, state, move));
  drags(parts, move);
  const watch = new ResizeObserver(redraw);
  watch.observe(parts.prompt);
  KEPT.set(parentElement, { text, place: data.place, state, parts, watch });
  if (before && before.place !== data.place) parts.live.textContent = `The trigger stands ${where(data, data.place)}.`;
  if (focused) parts.handle.focus();
  redraw();
}
