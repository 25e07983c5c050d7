// The same words as the server's: see age() in render.py.

export function ageText(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * size || (size !== 60 && seconds >= size * 1.5)) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

const PREFIXES = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

function number(value) {
  if (value !== 0 && Math.abs(value) < 1) return String(Number(value.toPrecision(3)));
  return value.toFixed(2).replace(/\.?0+$/, "");
}

// As quantity() in rules/wording.py.
export function quantityText(value, unit) {
  if (unit === "percent") return `${number(value)} %`;
  if (unit === "count") return number(value);
  if (unit === "bytes") {
    for (const [factor, prefix] of PREFIXES) {
      if (Math.abs(value) >= factor) return `${number(value / factor)} ${prefix}B`;
    }
    return `${number(value)} B`;
  }
  return `${number(value)} ${unit}`;
}
