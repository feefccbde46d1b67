// ---- in words ----------------------------------------------------------------------------------

const NAMED = 5;  // tokens that the line below a strip names

function nameOf(data, chosen) {
  const span = data.spans.find(({ at }) => at.join() === chosen.join());
  const many = chosen.length === 1 ? '' : ` (${chosen.length} tokens)`;
  if (span) return `the ${span.name}${many}`;
  const named = chosen.slice(0, 4).map(i => `«${data.tokens[i]}»`).join(' ');
  return chosen.length > 4 ? `${named} …${many}` : named;
}

// What is shown; of two spans, also why there is no number.
function sentence(data, state, shown) {
  if (state.direction === SPANS) {
    const none = SIDES.filter(side => !shown[side].length);
    if (none.length) {
      const names = none.map(side => `“${CALLED[side]}”`).join(' and ');
      return `No token is chosen for ${names}: drag over tokens, or choose a part.`;
    }
    return `From ${nameOf(data, shown.from)} to ${nameOf(data, shown.to)}, mean weight of a pair.`;
  }
  const chosen = shown.from, name = nameOf(data, chosen), looks = state.direction === LOOKS;
  const over = chosen.length > 1 ? `, ${looks ? 'mean' : 'sum'} over its tokens` : '';
  return looks ? `What ${name} looks at${over}.` : `What looks at ${name}${over}.`;
}

const isSink = (data, i) => data.first === 0 && i === 0;

// «a» .312, «b» .120: the largest weights; the first token only where it is coloured too.
function largest(data, state, values, most = NAMED) {
  return [...values.keys()]
    .filter(i => values[i] >= 0.0005 && (state.sink || !isSink(data, i)))
    .sort((a, b) => values[b] - values[a] || a - b).slice(0, most)
    .map(i => `«${data.tokens[i]}» ${digits(values[i], 3)}`).join(', ') || 'nothing';
}

// Sums of a row by part; a column's values belong to different rows, so their mean is told.
function byPart(data, state, values) {
  const looks = state.direction !== SEEN;
  const parts = data.spans.map(span => {
    const sum = sumOf(values, span), value = looks ? sum : sum / span.at.length;
    return `${span.name} ${digits(value, 3)}`;
  });
  if (data.first === 0) parts.unshift(`first token ${digits(values[0], 3)}`);
  return `${looks ? 'In sum' : 'Mean by token'}: ${parts.join(' · ')}`;
}
