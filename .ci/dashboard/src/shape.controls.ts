// What the compiler has to refuse: were it taken, the check of the dashboard would
// show nothing, and the line that expects an error would be one.
import type { DrawnPanel, Shape } from "./shape";

const datasource = { type: "prometheus", uid: "${datasource}" } as const;
const stat = {
  id: 1, type: "stat", title: "A", description: "B", datasource, gridPos: { h: 1, w: 1, x: 0, y: 0 },
  fieldConfig: { defaults: { unit: "s", color: { mode: "thresholds" }, custom: {} }, overrides: [] },
  options: { colorMode: "value", graphMode: "none", justifyMode: "auto", orientation: "auto", percentChangeColorMode: "standard", reduceOptions: { calcs: [] }, showPercentChange: false, textMode: "auto", wideLayout: true },
  targets: [{ refId: "A", datasource, expr: "up", instant: true }],
} satisfies DrawnPanel;

export const refused: unknown[] = [
  // @ts-expect-error a kind of panel that nobody has
  { ...stat, type: "graph" } satisfies DrawnPanel,
  // @ts-expect-error an option that stat does not have
  { ...stat, options: { ...stat.options, legend: true } } satisfies DrawnPanel,
  // @ts-expect-error a value that is not of the option's
  { ...stat, options: { ...stat.options, colorMode: "blue" } } satisfies DrawnPanel,
  // @ts-expect-error a field of another kind of panel
  { ...stat, fieldConfig: { ...stat.fieldConfig, defaults: { ...stat.fieldConfig.defaults, custom: { lineWidth: 1 } } } } satisfies DrawnPanel,
  // @ts-expect-error no unit
  { ...stat, fieldConfig: { defaults: { color: { mode: "thresholds" }, custom: {} }, overrides: [] } } satisfies DrawnPanel,
  // @ts-expect-error an override of what there is not
  { ...stat, fieldConfig: { ...stat.fieldConfig, overrides: [{ matcher: { id: "byName", options: "a" }, properties: [{ id: "colour", value: 1 }] }] } } satisfies DrawnPanel,
  // @ts-expect-error a misspelled part of a query
  { ...stat, targets: [{ refId: "A", datasource, expr: "up", legendformat: "{{pod}}" }] } satisfies DrawnPanel,
  // @ts-expect-error a transformation that there is not
  { ...stat, transformations: [{ id: "organise", options: {} }] } satisfies DrawnPanel,
  // @ts-expect-error a version that is a text
  { title: "A", uid: "a", schemaVersion: "42", panels: [], templating: { list: [] } } satisfies Shape,
];
