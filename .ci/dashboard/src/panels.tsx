// Draws a panel with Grafana's own components, in the way of its own panels.
import { fieldMatchers, FieldType, getDisplayValueAlignmentFactors, getFieldDisplayName, getFieldDisplayValues, type DataFrame, type FieldDisplay, type GrafanaTheme2, type TimeRange, type VizOrientation } from "@grafana/data";
import { BarGauge, BigValue, TimeSeries, VizRepeater } from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";
import type { ComponentProps } from "react";
import { Exemplars } from "./exemplars";
import { Heatmap } from "./heatmap";
import type { Exemplar } from "./prometheus";
import type { BarGaugePanel, DrawnPanel, StatPanel } from "./shape";

export interface Drawing<P extends DrawnPanel = DrawnPanel> {
  panel: P;
  frames: DataFrame[];
  exemplars: Exemplar[];
  range: TimeRange;
  theme: GrafanaTheme2;
}
type Props<P extends DrawnPanel = DrawnPanel> = Drawing<P> & { width: number; height: number };

// as tells the compiler that a text of JSON is the member of the enum that it was
// checked to be.
const as = <T,>(value: unknown) => value as T;

// empty panels say so; those of values have words of their own for it.
export const empty = ({ panel, frames }: Drawing) => frames.length === 0 && panel.type !== "stat" && panel.type !== "bargauge";

// graphed has nulls, which are gaps, for what is no number, as 0/0 is.
const graphed = (frames: DataFrame[]) => frames.map((frame) => ({
  ...frame, fields: frame.fields.map((field) => field.type === FieldType.number ? { ...field, values: field.values.map((value) => Number.isFinite(value) ? value : null) } : field),
}));

export function Panel(props: Props) {
  const { panel, frames, width, height, range } = props;
  switch (panel.type) {
    case "timeseries":
      return (
        <TimeSeries frames={graphed(frames)} timeRange={range} timeZone="utc" width={width} height={height} legend={as(panel.options.legend)} options={panel.options}>
          {(config) => <Exemplars config={config} exemplars={props.exemplars} />}
        </TimeSeries>
      );
    case "heatmap":
      return <Heatmap {...props} panel={panel} />;
    case "table":
      return <TableNG data={frames[panel.options.frameIndex]!} width={width} height={height} cellHeight={as(panel.options.cellHeight)} noHeader={!panel.options.showHeader} getActions={() => []} structureRev={1} timeRange={range} />;
    case "bargauge":
      return <Bars {...props} panel={panel} />;
    case "stat":
      return <Big {...props} panel={panel} />;
  }
}

const displayed = ({ panel, frames, theme }: Drawing<BarGaugePanel | StatPanel>) => getFieldDisplayValues({
  data: frames, reduceOptions: panel.options.reduceOptions, fieldConfig: as(panel.fieldConfig), replaceVariables: (text) => text, theme, timeZone: "utc",
});

function Bars(props: Props<BarGaugePanel>) {
  const { panel: { options }, width, height, theme, frames } = props;
  return (
    <VizRepeater
      source={frames} renderCounter={0} width={width} height={height} orientation={as<VizOrientation>(options.orientation)} itemSpacing={10}
      minVizWidth={options.minVizWidth} minVizHeight={options.minVizHeight} maxVizHeight={options.maxVizHeight}
      getValues={() => displayed(props)} getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, orientation, width, height, count }) => (
        <BarGauge
          value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex!)} theme={theme} width={width} height={height} orientation={orientation}
          alignmentFactors={count > 1 ? alignmentFactors : undefined} itemSpacing={10} lcdCellWidth={8} displayMode={as<ComponentProps<typeof BarGauge>["displayMode"]>(options.displayMode)}
          showUnfilled={options.showUnfilled} valueDisplayMode={as<ComponentProps<typeof BarGauge>["valueDisplayMode"]>(options.valueMode)} namePlacement={as<ComponentProps<typeof BarGauge>["namePlacement"]>(options.namePlacement)}
        />
      )}
    />
  );
}

function Big(props: Props<StatPanel>) {
  const { panel: { options }, width, height, theme, frames } = props;
  return (
    <VizRepeater
      source={frames} renderCounter={0} width={width} height={height} orientation={as<VizOrientation>(options.orientation)} autoGrid
      getValues={() => displayed(props)} getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height, count }) => (
        <BigValue
          value={value.display} count={count} theme={theme} width={width} height={height} alignmentFactors={alignmentFactors} colorMode={as<ComponentProps<typeof BigValue>["colorMode"]>(options.colorMode)} graphMode={as<ComponentProps<typeof BigValue>["graphMode"]>(options.graphMode)}
          justifyMode={as<ComponentProps<typeof BigValue>["justifyMode"]>(options.justifyMode)} textMode={as<ComponentProps<typeof BigValue>["textMode"]>(options.textMode)} percentChangeColorMode={as<ComponentProps<typeof BigValue>["percentChangeColorMode"]>(options.percentChangeColorMode)} disableWideLayout={!options.wideLayout}
        />
      )}
    />
  );
}

// unmatched are the overrides that are of no field.
export const unmatched = ({ panel, frames }: Drawing) => panel.fieldConfig.overrides.map(({ matcher }) => matcher)
  .filter(({ id, options }) => !frames.some((frame) => frame.fields.some((field) => fieldMatchers.get(id).get(options)(field, frame, frames)))).map(({ options }) => options);

// Shown is what a panel shows, in words.
export interface Shown { names: string[]; points: number; rows: number; texts: string[]; changed?: string[]; blank?: boolean }

export function shown(drawing: Drawing): Shown {
  const { panel, frames } = drawing;
  if (panel.type === "bargauge" || panel.type === "stat") {
    const values: FieldDisplay[] = displayed(drawing as Drawing<BarGaugePanel | StatPanel>);
    if (frames.length === 0) return { names: [], points: 0, rows: 0, blank: true, texts: values.map((v) => v.display.text) };
    return { names: values.map((v) => v.display.title ?? ""), points: values.filter((v) => Number.isFinite(v.display.numeric)).length, rows: 0, texts: values.map((v) => `${v.display.prefix ?? ""}${v.display.text}${v.display.suffix ?? ""}`) };
  }
  const fields = frames.flatMap((frame) => frame.fields.filter((field) => panel.type === "table" || field.type === FieldType.number).map((field) => ({ frame, field })));
  return {
    names: fields.map(({ frame, field }) => getFieldDisplayName(field, frame, frames)),
    points: fields.reduce((sum, { field }) => sum + field.values.filter((value) => typeof value === "string" || Number.isFinite(value)).length, 0),
    rows: panel.type === "table" ? frames[0]?.length ?? 0 : 0,
    texts: panel.type === "table" ? fields.flatMap(({ field }) => field.values.map((value) => String(field.display!(value).text))) : [],
    // A label that looks like a number is none.
    changed: panel.type === "table" ? fields.filter(({ field }) => field.type === FieldType.string && !field.config.mappings).flatMap(({ field }) => field.values.filter((value) => field.display!(value).text !== value)) : [],
  };
}
