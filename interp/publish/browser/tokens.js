const SHADE = 65;  // per cent of the hue behind a token at full colour; the text stays legible

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

// The share of full colour that a weight has.
function shareOf(value, full, left) {
  return left || !full || !Number.isFinite(value) ? 0 : Math.max(0, Math.min(1, value / full));
}

// Only what changed is written: a browser lays out and paints every box that is touched.
function paint(data, state, view, values, full, shown) {
  const from = new Set(shown.from), to = new Set(shown.to), spans = state.direction === SPANS;
  view.list.classList.toggle('several', shown.from.length > 1);
  view.boxes.forEach((box, i) => {
    const left = !state.sink && isSink(data, i), value = values[i];
    const share = shareOf(value, full, left), percent = `${(SHADE * share).toFixed(1)}%`;
    const shade = share < 0.005 ? '' : `color-mix(in srgb, var(--hue) ${percent}, transparent)`;
    const number = value >= 0.005 || Number.isNaN(value) ? digits(value, 2) : '';
    const selected = spans ? from.has(i) || to.has(i) : state.chosen.has(i);
    const look = [left && 'sink', from.has(i) && 'picked', to.has(i) && 'key', selected].join();
    const was = view.shown[i];
    if (was.shade !== shade) box.style.backgroundColor = shade;
    if (was.number !== number) view.numbers[i].data = number;
    if (was.look !== look) {
      box.classList.toggle('sink', left);
      box.classList.toggle('picked', from.has(i));
      box.classList.toggle('key', to.has(i));
      box.setAttribute('aria-selected', String(selected));
    }
    view.shown[i] = { shade, number, look };
  });
}
