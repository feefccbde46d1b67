// See pagekeys.py. Heard before any control hears it: a control that was touched keeps the focus,
// and would keep the arrow too.
const BACK = ['ArrowLeft', 'PageUp'], NEXT = ['ArrowRight', 'PageDown'];
const TYPED = 'textarea, [contenteditable=true], [role=slider], [role=grid], ' +
  'input:not([type=checkbox]):not([type=radio])';

function isTyping(target, key) {
  const field = target instanceof Element ? target.closest(TYPED) : null;
  if (!field) return false;
  const list = field.getAttribute('role') === 'combobox';
  if (list) return field.getAttribute('aria-expanded') === 'true';
  return !key.startsWith('Page') || field.tagName === 'TEXTAREA';
}

export default function ({ data }) {
  const turn = event => {
    const { key } = event;
    const pressed = BACK.includes(key) ? data.back : NEXT.includes(key) ? data.next : null;
    if (!pressed || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (isTyping(event.composedPath()[0], key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    document.querySelector('.st-key-' + CSS.escape(pressed) + ' button')?.click();
  };
  window.addEventListener('keydown', turn, true);
  return () => window.removeEventListener('keydown', turn, true);
}
