// See saver.py. Only data reach the page, never markup: the label and the names are set as text, an
// SVG is what plotly made of a chart that stands on the page already, and the facts written into it
// are escaped where they are made (interp/publish/stamps.py).
const chartOf = key => document.querySelector('.st-key-' + CSS.escape(key) + ' .js-plotly-plot');
const cameraOf = key => chartOf(key)?.querySelector('.modebar-btn[data-title^="Download"]');

function shoot({ key, filename, ...own }, format, scale) {
  const chart = chartOf(key);
  const shown = chart.getBoundingClientRect();
  Object.assign(chart._context.toImageButtonOptions, {
    format, scale, filename,
    width: own.width || shown.width, height: own.height || shown.height,
  });
  cameraOf(key).click();
}

// What plotly hands to the browser to save, instead of saving it.
function caught(name) {
  return new Promise(resolve => {
    const look = event => {
      const link = event.target;
      if (link.tagName !== 'A' || link.download !== name) return;
      event.preventDefault();
      event.stopPropagation();
      document.removeEventListener('click', look, true);
      resolve(fetch(link.href).then(answer => answer.blob()));
    };
    document.addEventListener('click', look, true);
  });
}

const stampedSvg = async (blob, stamp) =>
  (await blob.text()).replace(/<svg\b[^>]*>/, tag => tag + stamp);

async function stamped(blob, { stamp }, { format, head }) {
  if (format !== 'png') return new Blob([await stampedSvg(blob, stamp)], { type: blob.type });
  const chunks = Uint8Array.from(atob(stamp), letter => letter.charCodeAt(0));
  return new Blob([blob.slice(0, head), chunks, blob.slice(head)], { type: blob.type });
}

function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function print(title, svgs) {
  const frame = document.createElement('iframe');
  frame.style.cssText = 'position: fixed; width: 0; height: 0; border: 0';
  document.body.append(frame);
  const sheet = frame.contentDocument, style = sheet.createElement('style');
  style.textContent = 'body { margin: 0 } svg { display: block; break-after: page }';
  sheet.head.append(style);
  svgs.forEach((text, number) => {
    const svg = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
    const size = svg.getAttribute('width') + 'px ' + svg.getAttribute('height') + 'px';
    style.textContent += `@page p${number} { size: ${size}; margin: 0 }`;
    svg.style.page = 'p' + number;
    sheet.body.append(sheet.importNode(svg, true));
  });
  const before = document.title;
  document.title = sheet.title = title;  // the name that the dialog proposes
  frame.contentWindow.onafterprint = () => { document.title = before; frame.remove(); };
  frame.contentWindow.print();
}

async function all(charts, data) {
  const printed = data.format === 'pdf', format = printed ? 'svg' : data.format;
  const images = charts.map(({ filename }) => caught(`${filename}.${format}`));
  for (const chart of charts) shoot(chart, format, data.scale);
  if (printed) {
    const svgs = (await Promise.all(images)).map((blob, n) => stampedSvg(blob, charts[n].stamp));
    return print(charts[0].filename, await Promise.all(svgs));
  }
  for (const [n, image] of images.entries()) {
    save(await stamped(await image, charts[n], data), `${charts[n].filename}.${format}`);
  }
}

export default function ({ parentElement, data }) {
  const button = parentElement.querySelector('button');
  const status = parentElement.querySelector('span');
  button.textContent = data.label;
  button.onclick = () => {
    const drawn = data.charts.filter(chart => cameraOf(chart.key));
    status.textContent = drawn.length ? '' : 'the figure is not drawn yet';
    if (drawn.length) all(drawn, data).catch(error => { status.textContent = String(error); });
  };
}
