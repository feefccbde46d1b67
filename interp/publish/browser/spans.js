// ---- span to span ------------------------------------------------------------------------------

const FREE = 'free selection';

function partButton(span) {
  const element = button('', false);
  const mark = made('span', `mark part-${shade(span)}`, '', { 'aria-hidden': 'true' });
  element.append(mark, span.name);
  return element;
}

// The buttons of one side: each part, or what is chosen on the tokens.
function sideChoice(data, state, side, redraw) {
  const set = part => () => {
    state.sides[side].part = part;
    state.side = side;
    forget(state);
    redraw();
  };
  const parts = data.spans.map((span, i) => [i, partButton(span)]);
  const every = [...parts, [null, button(FREE, false)]];
  for (const [part, element] of every) element.addEventListener('click', set(part));
  return { side, every, group: group(CALLED[side], ...every.map(([, element]) => element)) };
}

// A table of numbers: one row per model, and their difference.
function spanTable(data) {
  const table = made('table', 'between'), head = made('tr');
  const names = data.models.map(model => model.name);
  const labels = names.length === 2 ? [...names, `${names[1]} − ${names[0]}`] : names;
  head.append(made('td'), ...['mean weight (as L_attn)', 'in sum over the keys'].map(
    text => made('th', '', text, { scope: 'col' }),
  ));
  const rows = labels.map(label => {
    const row = made('tr'), cells = [made('td'), made('td')];
    row.append(made('th', '', label, { scope: 'row' }), ...cells);
    return { row, cells };
  });
  table.append(head, ...rows.map(({ row }) => row));
  return { table, cells: rows.map(({ cells }) => cells), labels };
}

function spanPanel(data, state, redraw) {
  const sides = SIDES.map(side => sideChoice(data, state, side, redraw));
  const bar = made('div', 'bar'), hint = made('p', 'hint'), root = made('div', 'spans');
  const numbers = spanTable(data);
  bar.append(...sides.map(({ group }) => group));
  root.append(bar, hint);
  return { root, sides, hint, ...numbers };
}

// Mean weight of a pair in every model, and last the difference of two.
function spanValues(views, side, shown) {
  const values = views.map(view => between(view.weights, side, shown.from, shown.to));
  return values.length === 2 ? [...values, values[1] - values[0]] : values;
}

// Fills the table; returns the numbers in words.
function drawSpans(data, state, panel, views, shown) {
  panel.root.hidden = panel.table.hidden = state.direction !== SPANS;
  if (panel.root.hidden) return '';
  for (const { side, every, group } of panel.sides) {
    group.classList.toggle('active', side === state.side);
    for (const [part, element] of every) {
      element.setAttribute('aria-pressed', String(part === state.sides[side].part));
    }
  }
  panel.hint.textContent = `What you drag over, click, or reach with Shift and arrows on the tokens `
    + `becomes “${CALLED[state.side]}”; press “${FREE}” of the other side to choose that.`;
  const values = spanValues(views, data.tokens.length, shown), keys = shown.to.length;
  const empty = !shown.from.length || !keys;
  values.forEach((value, row) => {
    const write = row < views.length ? digits : signed;
    panel.cells[row][0].textContent = empty ? '–' : write(value, 4);
    panel.cells[row][1].textContent = empty ? '–' : write(value * keys, 3);
  });
  if (empty) return '';
  return values.map((value, row) => (
    row < views.length ? `${panel.labels[row]} ${digits(value, 4)}`
      : `difference ${signed(value, 4)}`
  )).join(', ') + '.';
}
