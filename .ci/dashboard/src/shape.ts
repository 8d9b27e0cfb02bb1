// What the dashboard may be, by Grafana's own published types: an option that a
// panel does not have, or of another type, is an error of the compiler.
import type { DataTransformerInfo, standardTransformers } from "@grafana/data";
import type { Dataquery } from "@grafana/grafana-foundation-sdk/prometheus";
import type { Dashboard, FieldConfig, GridPos, Panel, RowPanel, VariableModel } from "@grafana/schema";
import type * as bargauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// Json is a type as JSON writes it: a member of an enum of strings is its text.
export type Json<T> = T extends string ? (string extends T ? string : `${T}`)
  : T extends number | boolean | null | undefined ? T
  : T extends readonly (infer E)[] ? Json<E>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> }
  : T;

export interface Query extends Json<Omit<Dataquery, "_implementsDataqueryVariant" | "datasource" | "refId">> {
  refId: string;
  datasource: Source;
}

// Source is what the reader chooses with the variable.
interface Source {
  type: "prometheus";
  uid: "${datasource}";
}

type Properties<T, Prefix extends string> = { [K in keyof T & string]-?: { id: `${Prefix}${K}`; value: NonNullable<T[K]> } }[keyof T & string];

interface Fields<Custom> {
  // A unit and colours are always said.
  defaults: Json<Omit<FieldConfig, "custom">> & { unit: string; color: object; custom: Json<Custom> };
  overrides: {
    matcher: { id: "byName" | "byRegexp"; options: string };
    properties: (Properties<Json<Omit<FieldConfig, "custom">>, ""> | Properties<Json<Custom>, "custom.">)[];
  }[];
}

type OptionsOf<T> = T extends DataTransformerInfo<infer O> ? O : never;
type Transformers = typeof standardTransformers;
export type Transformation = { id: "organize"; options: OptionsOf<Transformers["organizeFieldsTransformer"]> } | { id: "sortBy"; options: OptionsOf<Transformers["sortByTransformer"]> };

interface Drawn<Kind extends string, Options, Custom> extends Omit<Panel, "type" | "options" | "fieldConfig" | "targets" | "transformations"> {
  id: number;
  type: Kind;
  title: string;
  description: string;
  datasource: Source;
  gridPos: GridPos;
  options: Json<Options>;
  fieldConfig: Fields<Custom>;
  targets: Query[];
  transformations?: Transformation[];
}

// These draw by value: they have no fields of their own kind.
type None = Record<string, never>;
export type TimeSeriesPanel = Drawn<"timeseries", timeseries.Options, timeseries.FieldConfig>;
export type HeatmapPanel = Drawn<"heatmap", heatmap.Options, heatmap.FieldConfig>;
export type TablePanel = Drawn<"table", table.Options, table.FieldConfig>;
export type BarGaugePanel = Drawn<"bargauge", bargauge.Options, None>;
export type StatPanel = Drawn<"stat", stat.Options, None>;
export type DrawnPanel = TimeSeriesPanel | HeatmapPanel | TablePanel | BarGaugePanel | StatPanel;
export type Row = Omit<RowPanel, "panels"> & { title: string; gridPos: GridPos; panels: [] };

// definition is what Grafana's editor shows; it is in no published type.
type Variable = Json<VariableModel> & { definition?: string };
export interface Shape extends Json<Omit<Dashboard, "panels" | "templating">> {
  title: string;
  uid: string;
  panels: (DrawnPanel | Row)[];
  templating: { list: Variable[] };
}
