// ---- what is chosen, by mouse and by keys ------------------------------------------------------

// What is chosen, where nothing is kept from before.
function unchosen(data) {
  const part = name => {
    const found = data.spans.findIndex(span => span.name === name);
    return { part: found < 0 ? null : found, own: new Set() };
  };
  return {
    direction: LOOKS, sink: false, chosen: new Set(), at: null, focused: null,
    sides: { from: part('instruction'), to: part('trigger') }, side: 'from',
    anchor: null, end: null, base: [],
  };
}

const ordered = set => [...set].sort((a, b) => a - b);

// The tokens of one side of a span to span.
function tokensOf(data, { part, own }) {
  return part === null ? ordered(own) : data.spans[part].at;
}

// The tokens that are looked from or at now: chosen ones, else the one under mouse or focus, else
// what says most at rest: the instruction. Of two spans, the tokens of both.
function source(data, state) {
  if (state.direction === SPANS) {
    const { from, to } = state.sides;
    return { from: tokensOf(data, from), to: tokensOf(data, to) };
  }
  const rest = data.spans.find(span => span.name === 'instruction');
  let from = rest ? rest.at : [data.tokens.length - 1];
  if (state.chosen.size) from = ordered(state.chosen);
  else if (state.at !== null) from = [state.at];
  return { from, to: [] };
}

// The set that a choice on the tokens changes. A side that was a part begins anew.
function edited(state) {
  if (state.direction !== SPANS) return state.chosen;
  const side = state.sides[state.side];
  if (side.part !== null) Object.assign(side, { part: null, own: new Set() });
  return side.own;
}

function forget(state) {
  Object.assign(state, { anchor: null, end: null, base: [] });
}

// From here a stretch of tokens may be drawn; what is chosen already stays if it is kept.
function begin(state, i, kept) {
  const set = edited(state);
  if (!kept) set.clear();
  Object.assign(state, { anchor: i, end: i, base: [...set] });
}

function stretch(state, i) {
  const set = edited(state), [from, to] = [i, state.anchor].sort((a, b) => a - b);
  set.clear();
  for (const one of state.base) set.add(one);
  for (let one = from; one <= to; one++) set.add(one);
  state.end = i;
}

// Choose a token or leave it; with Shift all from the last one to this.
function choose(state, i, through) {
  if (through && state.anchor !== null) return stretch(state, i);
  const set = edited(state);
  if (!set.delete(i)) set.add(i);
  begin(state, i, true);
}

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

function focusOn(view, i) {
  for (const box of view.boxes) if (box.tabIndex === 0) box.tabIndex = -1;
  view.boxes[i].tabIndex = 0;
  view.boxes[i].focus();
}

// Point at tokens, click them, drag over them. `tokenAt`: event -> number of a token, or null.
function pointed(element, tokenAt, state, redraw, clicked = () => {}) {
  let pressed = null, dragged = false;
  const at = i => {
    if (state.at === i) return;
    state.at = i;
    if (state.direction !== SPANS) redraw();
  };
  element.addEventListener('pointerdown', event => {
    dragged = false;  // a finger scrolls
    pressed = event.button || event.pointerType === 'touch' ? null : tokenAt(event);
  });
  const over = event => {
    const i = tokenAt(event);
    if (i === null) return;
    if (!(event.buttons & 1)) [pressed, dragged] = [null, false];  // it ended elsewhere, too
    if (pressed === null) return at(i);
    if (!dragged && i === pressed) return;
    if (dragged && i === state.end) return;
    if (!dragged) begin(state, pressed, event.shiftKey || event.ctrlKey || event.metaKey);
    dragged = true;
    state.at = i;
    stretch(state, i);
    redraw();
  };
  element.addEventListener('pointerover', over);
  element.addEventListener('pointermove', over);
  element.addEventListener('pointerleave', () => at(state.focused));
  element.addEventListener('click', event => {
    const i = tokenAt(event);
    if (i === null || dragged) return;
    clicked(i);
    choose(state, i, event.shiftKey);
    redraw();
  });
}

function boxOf(event) {
  const box = event.target.closest('[data-token]');
  return box ? Number(box.dataset.token) : null;
}

function byKey(view, state, event) {
  const i = boxOf(event), { key } = event;
  if (i === null || event.ctrlKey || event.altKey || event.metaKey) return false;
  const next = moved(key, view.boxes, i);
  if (next !== null) {
    if (event.shiftKey) {
      if (state.anchor === null || state.end !== i) begin(state, i, true);
      stretch(state, next);
    }
    focusOn(view, next);
  } else if (key === 'Enter' || key === ' ') {
    choose(state, i, event.shiftKey);
  } else if (key === 'Escape') {
    edited(state).clear();
    forget(state);
  } else return false;
  return true;
}

function listen(view, state, redraw) {
  pointed(view.list, boxOf, state, redraw, i => focusOn(view, i));
  const focus = i => {
    state.focused = i;
    if (state.at === i) return;
    state.at = i;
    if (state.direction !== SPANS) redraw();
  };
  view.list.addEventListener('focusin', event => focus(boxOf(event)));
  view.list.addEventListener('focusout', () => focus(null));
  view.list.addEventListener('keydown', event => {
    if (!byKey(view, state, event)) return;
    event.preventDefault();
    event.stopPropagation();
    redraw();
  });
}
