// ---- the whole ---------------------------------------------------------------------------------

const KEPT = new WeakMap();  // element of the page -> its state, kept when new weights come

function draw(data, state, parts) {
  const shown = source(data, state), side = data.tokens.length;
  const style = getComputedStyle(parts.root);
  const all = parts.views.map(view => gathered(view.weights, side, shown.from, state.direction));
  const counts = i => state.sink || !isSink(data, i);
  const drawn = values => [...values].filter((value, i) => Number.isFinite(value) && counts(i));
  const full = Math.max(0, ...all.flatMap(drawn));
  const what = sentence(data, state, shown);
  parts.now.textContent = `${what} Full colour: ${digits(full, 3)}, in both models.`;
  const told = [what];
  parts.views.forEach((view, number) => {
    const values = all[number];
    paint(data, state, view, values, full, shown);
    const most = `Most: ${largest(data, state, values)}`, sums = byPart(data, state, values);
    view.told.firstChild.textContent = most;
    view.told.lastChild.textContent = sums;
    if (state.direction !== SPANS) told.push(`${view.name}: ${most}. ${sums}.`);
  });
  told.push(drawSpans(data, state, parts.spans, parts.views, shown));
  drawApart(data, state, parts.apart, shown, style);
  drawBar(state, parts);
  clearTimeout(parts.timer);  // a screen reader hears where a movement ends
  parts.timer = setTimeout(() => { parts.live.textContent = told.join(' ').trim(); }, 250);
}

function drawBar(state, parts) {
  for (const [direction, element] of parts.directions) {
    element.setAttribute('aria-pressed', String(direction === state.direction));
  }
  for (const [span, element] of parts.quick) {
    element.setAttribute('aria-pressed', String(span.at.every(i => state.chosen.has(i))));
  }
  parts.choice.hidden = state.direction === SPANS;
  parts.clear.disabled = !state.chosen.size;
}

function directionButtons(state, redraw) {
  const ways = [[LOOKS, 'what it looks at'], [SEEN, 'what looks at it'], [SPANS, 'span to span']];
  return ways.map(([way, text]) => {
    const element = button(text, false);
    element.addEventListener('click', () => {
      state.direction = way;
      forget(state);
      redraw();
    });
    return [way, element];
  });
}

function toolbar(data, state, redraw) {
  const directions = directionButtons(state, redraw);
  const quick = data.spans.map(span => {
    const element = partButton(span);
    element.addEventListener('click', () => {
      const all = state.chosen.size === span.at.length;  // and no token besides
      const on = all && element.getAttribute('aria-pressed') === 'true';
      state.chosen.clear();
      forget(state);
      if (!on) span.at.forEach(i => state.chosen.add(i));
      redraw();
    });
    return [span, element];
  });
  const clear = button('clear');
  clear.addEventListener('click', () => { state.chosen.clear(); forget(state); redraw(); });
  const label = made('label'), sink = made('input', '', '', { type: 'checkbox' });
  sink.checked = state.sink;
  sink.addEventListener('change', () => { state.sink = sink.checked; redraw(); });
  label.append(sink, 'colour the first token (sink)');
  const choice = group('Choose', ...quick.map(([, element]) => element), clear);
  const bar = made('div', 'bar');
  bar.append(group('Show', ...directions.map(([, element]) => element)), choice, label);
  return { bar, directions, quick, choice, clear };
}

export default function mount({ parentElement, data }) {
  const before = KEPT.get(parentElement);
  const same = before && JSON.stringify(before.data) === JSON.stringify(data);
  if (same && before.root.isConnected) return before.redraw();  // its colours may be others
  const texts = JSON.stringify([data.tokens, data.spans]);
  const state = before?.texts === texts ? before.state : unchosen(data);
  Object.assign(state, { at: null, focused: null });
  const root = made('div', 'strip'), parts = { root };
  const redraw = () => draw(data, state, parts);
  Object.assign(parts, toolbar(data, state, redraw), {
    views: data.models.map(model => strip(data, model)),
    spans: spanPanel(data, state, redraw),
    apart: smallStrips(data, state, redraw),
    now: made('p', 'now'),
    live: made('div', 'unseen', '', { 'aria-live': 'polite', role: 'status' }),
  });
  const models = made('div', 'models');
  for (const view of parts.views) {
    view.told.append(made('div'), made('div'));
    models.append(view.section);
    listen(view, state, redraw);
  }
  root.append(parts.bar, parts.spans.root, parts.now, parts.spans.table, models);
  if (parts.apart) root.append(parts.apart.root);
  root.append(parts.live);
  before?.root.remove();
  before?.stop.abort();
  parentElement.append(root);
  const stop = new AbortController(), dark = matchMedia('(prefers-color-scheme: dark)');
  dark.addEventListener('change', redraw, { signal: stop.signal });
  KEPT.set(parentElement, { data, texts, state, root, redraw, stop });
  redraw();
}
