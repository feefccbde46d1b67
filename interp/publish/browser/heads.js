// ---- heads one by one --------------------------------------------------------------------------

// One pixel of a canvas is one token, stretched by the style: thirty strips are drawn in no time.
function pixelRow(side, more) {
  const canvas = made('canvas', '', '', { ...more, width: side, height: 1 });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  return { canvas, context, image: context.createImageData(side, 1) };
}

const COLOURS = new Map();  // a colour as CSS writes it -> its red, green and blue

function channels(colour) {
  if (!COLOURS.has(colour)) {
    const { context } = pixelRow(1, {});
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    COLOURS.set(colour, context.getImageData(0, 0, 1, 1).data.slice(0, 3));
  }
  return COLOURS.get(colour);
}

function pixel(image, i, colour, alpha) {
  image.data.set(colour, 4 * i);
  image.data[4 * i + 3] = Math.round(255 * alpha);
}

function smallStrip(data, head) {
  const side = data.tokens.length, root = made('figure', 'one', '', { 'aria-label': head.name });
  const models = data.models.map(({ name }, which) => {
    const row = pixelRow(side, { role: 'img', 'data-cells': '' });
    const value = made('span', 'value');
    root.append(made('span', 'who', name), row.canvas, value);
    return { ...row, name, value, weights: squared(decoded(head.weights[which]), side) };
  });
  const marks = pixelRow(side, { class: 'marks', 'aria-hidden': 'true' });
  root.prepend(made('figcaption', '', head.name));
  root.append(marks.canvas);
  return { name: head.name, root, models, marks };
}

// Small strips of single heads below those of their mean; null where there are none.
function smallStrips(data, state, redraw) {
  if (!data.apart) return null;
  const root = made('section', 'apart', '', { 'aria-label': 'Heads one by one' });
  const grid = made('div', 'grid'), heads = data.apart.heads.map(head => smallStrip(data, head));
  const note = made('p', 'note'), { left_out: left } = data.apart;
  grid.append(...heads.map(head => head.root));
  root.append(made('h4', '', 'Heads one by one'), note, grid);
  pointed(grid, event => cellOf(event, data.tokens.length), state, redraw);
  const of = left ? `${heads.length} of ${heads.length + left} heads; ${left} are left out: choose `
    + 'fewer heads to see them. ' : '';
  return { root, heads, note, of };
}

// The token under the mouse, or null.
function cellOf(event, side) {
  if (!event.target.closest('[data-cells]')) return null;
  const { left, width } = event.target.getBoundingClientRect();
  return Math.max(0, Math.min(side - 1, Math.floor((event.clientX - left) / width * side)));
}

// What stands beside a small strip: weight of a pair, sum on the trigger, or the largest weight.
function besides(data, state, model, values, shown) {
  if (state.direction === SPANS) {
    if (!shown.from.length || !shown.to.length) return '–';
    return digits(between(model.weights, data.tokens.length, shown.from, shown.to), 4);
  }
  const trigger = data.spans.find(span => span.name === 'trigger');
  if (state.direction === LOOKS && trigger) return `trigger ${digits(sumOf(values, trigger), 3)}`;
  return largest(data, state, values, 1);
}

// The parts of the text, with what is looked from (or at) and the keys of a span to span.
function drawMarks(data, shown, { context, image }, { parts, ink, hue }) {
  for (let i = 0; i < data.tokens.length; i++) {
    const part = partOf(data, i);
    pixel(image, i, part < 0 ? ink : parts[shade(data.spans[part])], part < 0 ? 0 : 0.6);
  }
  for (const i of shown.to) pixel(image, i, hue, 1);
  for (const i of shown.from) pixel(image, i, ink, 1);
  context.putImageData(image, 0, 0);
}

function coloursOf(style) {
  const read = name => channels(style.getPropertyValue(name));
  const parts = SHADES.map((_, i) => read(`--part-${i}`));
  return { parts, ink: channels(style.color), hue: read('--hue') };
}

function drawApart(data, state, apart, shown, style) {
  if (!apart) return;
  const side = data.tokens.length, colours = coloursOf(style);
  const way = state.direction, left = i => !state.sink && isSink(data, i);
  const all = apart.heads.map(({ models }) => models.map(
    ({ weights }) => gathered(weights, side, shown.from, way),
  ));
  let full = 0;
  for (const values of all.flat()) {
    values.forEach((value, i) => {
      if (Number.isFinite(value) && !left(i)) full = Math.max(full, value);
    });
  }
  apart.note.textContent = `${apart.of}Each box is a token, `
    + `lit as above. Full colour: ${digits(full, 3)}, in all of these.`;
  apart.heads.forEach((head, number) => {
    head.models.forEach((model, which) => {
      const values = all[number][which], { context, image, canvas } = model;
      for (let i = 0; i < side; i++) {
        pixel(image, i, colours.hue, shareOf(values[i], full, left(i)));
      }
      context.putImageData(image, 0, 0);
      const told = besides(data, state, model, values, shown);
      if (model.value.textContent === told) return;
      model.value.textContent = told;
      canvas.setAttribute('aria-label', `${head.name}, ${model.name}: ${told}`);
    });
    drawMarks(data, shown, head.marks, colours);
  });
}
