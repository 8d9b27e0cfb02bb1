// A page that shows the dashboard: each panel asks the Prometheus that the address
// names, and is drawn by Grafana's components. window.report says what there is.
import { createTheme, dateTime, ThemeContext, type DataFrame, type TimeRange } from "@grafana/data";
import { initPluginTranslations } from "@grafana/i18n";
import { GlobalStyles, PanelChrome, PortalContainer } from "@grafana/ui";
import { Component, useEffect, useState, type ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { dashboard } from "./dashboard.gen";
import { prepared } from "./fields";
import { empty, Panel, shown, unmatched, type Drawing, type Shown } from "./panels";
import { Prometheus, type Exemplar } from "./prometheus";
import type { DrawnPanel, Shape } from "./shape";
import { builtIn, chosen, interpolate, stepOf, type Values } from "./variables";

interface Report extends Partial<Shown> { id: number; type: string; title: string; empty?: boolean; exemplars?: number; wantsExemplars?: boolean; unmatched?: string[]; expressions?: string[]; error?: string }
declare global {
  interface Window { report?: { offered: Values; panels: Report[] } }
}

const page = new URLSearchParams(location.search);
const scrape = Number(page.get("scrape"));
const shape: Shape = dashboard;
const theme = createTheme({ colors: { mode: page.get("theme") === "light" ? "light" : "dark" } });
const now = Math.floor(Number(page.get("to"))), from = Math.floor(Number(page.get("from")));
const range: TimeRange = { from: dateTime(from * 1000), to: dateTime(now * 1000), raw: { from: dateTime(from * 1000), to: dateTime(now * 1000) } };

// Grafana's grid: 24 columns, rows of 30 pixels, 8 between.
const gap = 8, column = (1600 + gap) / 24;
const place = ({ x, y, w, h }: DrawnPanel["gridPos"]) => ({ left: x * column, top: y * (30 + gap), width: w * column - gap, height: h * (30 + gap) - gap });

interface Loaded { drawing: Drawing; error?: string; expressions: string[] }

async function load(panel: DrawnPanel, source: Prometheus, values: Values): Promise<Loaded> {
  const step = stepOf(range, place(panel.gridPos).width, scrape);
  const frames: DataFrame[] = [], exemplars: Exemplar[] = [], expressions: string[] = [];
  let error: string | undefined;
  try {
    for (const target of panel.targets) {
      if (target.hide) continue;
      const expr = builtIn(interpolate(target.expr, shape, values), range, step, scrape);
      expressions.push(expr);
      const start = Math.floor(from / step) * step, end = Math.floor(now / step) * step;
      frames.push(...await source.frames(target, expr, start, target.instant ? now : end, step));
      if (target.exemplar) exemplars.push(...await source.exemplars(expr, start, end));
    }
  } catch (e) {
    error = String(e);
  }
  const drawn = await prepared(panel, frames, theme).catch((e: unknown) => { error ??= String(e); return []; });
  return { drawing: { panel, frames: drawn, exemplars, range, theme }, error, expressions };
}

// Fallible shows what a component throws, and reports it.
class Fallible extends Component<{ report: Report; children: ReactNode }, { error?: string }> {
  override state: { error?: string } = {};
  static getDerivedStateFromError(error: unknown) { return { error: String(error) }; }
  override componentDidCatch(error: unknown) { this.props.report.error = String(error); }
  override render() { return this.state.error ?? this.props.children; }
}

function Page({ loaded, reports }: { loaded: Map<number, Loaded>; reports: Report[] }) {
  const [ready, setReady] = useState(false);
  useEffect(() => { document.fonts.ready.then(() => setReady(true)); }, []);
  return (
    <div style={{ position: "relative", width: 1600, height: Math.max(...shape.panels.map((p) => place(p.gridPos).top + place(p.gridPos).height)) }}>
      {ready && shape.panels.map((panel, i) => {
        const { left, top, width, height } = place(panel.gridPos);
        const style = { position: "absolute", left, top, width, height } as const;
        if (panel.type === "row") return <h2 key={panel.id} data-panel={panel.id} style={{ ...style, margin: 0, fontSize: 16, lineHeight: `${height}px` }}>{panel.title}</h2>;
        const { drawing, error } = loaded.get(panel.id)!;
        return (
          <div key={panel.id} data-panel={panel.id} style={style}>
            <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
              {(width, height) => (
                <Fallible report={reports[i]!}>
                  {error ?? (!empty(drawing) ? <Panel {...drawing} width={width} height={height} /> : <div data-empty style={{ display: "grid", placeItems: "center", height }}>No data</div>)}
                </Fallible>
              )}
            </PanelChrome>
          </div>
        );
      })}
    </div>
  );
}

async function main() {
  await initPluginTranslations("credfree");
  const source = new Prometheus(page.get("prometheus")!);
  const choice = Object.fromEntries(["namespace", "agent"].filter((name) => page.has(name)).map((name) => [name, page.getAll(name)]));
  const { values, offered } = await chosen(shape, source, choice);
  const loaded = new Map<number, Loaded>();
  const reports = await Promise.all(shape.panels.map(async (panel): Promise<Report> => {
    const { id, type, title } = panel;
    if (panel.type === "row") return { id, type, title: title! };
    const its = await load(panel, source, values);
    loaded.set(id, its);
    const report: Report = { id, type, title: title!, empty: empty(its.drawing), exemplars: its.drawing.exemplars.filter((e) => e.traceID !== "").length, wantsExemplars: panel.targets.some((t) => t.exemplar), unmatched: unmatched(its.drawing), expressions: its.expressions, error: its.error };
    try {
      Object.assign(report, shown(its.drawing));
    } catch (e) {
      report.error ??= String(e);
    }
    return report;
  }));
  createRoot(document.getElementById("page")!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Page loaded={loaded} reports={reports} />
      <PortalContainer />
    </ThemeContext.Provider>,
  );
  window.report = { offered, panels: reports };
}

void main();
