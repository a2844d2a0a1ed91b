export interface Bar {
  title: string;
  /** In their order, one after the other. */
  stages: { name: string; ms: number }[];
}

const width = 760;
const margin = 16;
const barHeight = 30;
const colours = [
  "#0b6e4f",
  "#3a9d78",
  "#8cc9ae",
  "#c2571a",
  "#e08e45",
  "#f2c48d",
  "#3c5a99",
  "#7d95c9",
  "#b9c6e3",
  "#8a8f98",
];

/** Bars on one scale of milliseconds, each with a legend of its stages, as an SVG picture. Pure. */
export function timeline(bars: readonly Bar[]): string {
  const totalOf = ({ stages }: Bar) => stages.reduce((sum, { ms }) => sum + ms, 0);
  const scale = (width - 2 * margin) / Math.max(...bars.map(totalOf));
  const body: string[] = [];
  let y = margin;
  for (const bar of bars) {
    body.push(text(margin, y + 12, `${bar.title}: ${totalOf(bar).toFixed(1)} ms`, ' font-weight="600"'));
    y += 20;
    let x = margin;
    for (const [i, { name, ms }] of bar.stages.entries()) {
      const label = `<title>${name} ${ms.toFixed(2)} ms</title>`;
      const place = `x="${x.toFixed(1)}" y="${y}" width="${(ms * scale).toFixed(1)}" height="${barHeight}"`;
      body.push(`<rect ${place} fill="${colours[i % colours.length]}">${label}</rect>`);
      x += ms * scale;
    }
    y += barHeight + 8;
    const columns = 4;
    for (const [i, { name, ms }] of bar.stages.entries()) {
      const left = margin + (i % columns) * ((width - 2 * margin) / columns);
      const line = y + Math.floor(i / columns) * 18;
      body.push(
        `<rect x="${left}" y="${line}" width="10" height="10" fill="${colours[i % colours.length]}"/>`,
      );
      body.push(text(left + 15, line + 9, `${name} ${ms.toFixed(2)} ms`, ""));
    }
    y += Math.ceil(bar.stages.length / columns) * 18 + 14;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" font-family="system-ui, sans-serif" font-size="12"><title>Where the time of a resume goes</title><rect width="100%" height="100%" fill="#fff"/>${body.join("")}</svg>\n`;
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${x}" y="${y}"${attributes}>${content.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</text>`;
}
