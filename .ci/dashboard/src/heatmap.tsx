// Grafana's heatmap panel is not published as a library. This draws the same frame,
// a row of cells for each bucket, with the parts that are: uPlot with axes and
// scales as Grafana builds them, its layout, and the colour schemes that it uses.
import { FieldType, formattedValueToString, getValueFormat, type DataFrame, type GrafanaTheme2, type TimeRange } from "@grafana/data";
import { AxisPlacement, ScaleDirection, ScaleOrientation } from "@grafana/schema";
import { UPlotChart, UPlotConfigBuilder, VizLayout } from "@grafana/ui";
import * as chromatic from "d3-scale-chromatic";
import { useMemo, type ComponentProps } from "react";
import { Exemplars } from "./exemplars";
import type { Drawing } from "./panels";
import type { HeatmapPanel } from "./shape";

export function Heatmap(props: Drawing<HeatmapPanel> & { width: number; height: number }) {
  const { frames, panel, theme, range } = props;
  const frame = frames[0]!;
  const config = useMemo(() => configured(frame, panel, theme, range), [frame, panel, theme, range]);
  const colour = scheme(panel, theme, Math.max(...buckets(frame).flatMap((row) => row.values)));
  const data = [frame.fields[0]!.values, ...buckets(frame).map((row) => row.values)] as ComponentProps<typeof UPlotChart>["data"];
  const exemplars = props.exemplars.map((e) => ({ ...e, value: height(frame, e.value) }));
  return (
    <VizLayout width={props.width} height={props.height} legend={<VizLayout.Legend placement="bottom"><Legend {...colour} /></VizLayout.Legend>}>
      {(width: number, height: number) => <UPlotChart config={config} data={data} width={width} height={height}><Exemplars config={config} exemplars={exemplars} /></UPlotChart>}
    </VizLayout>
  );
}

const buckets = (frame: DataFrame) => frame.fields.filter((field) => field.type === FieldType.number);
const bound = (le: string) => Number(le.replace("Inf", "Infinity"));

// height is where a value stands when each bucket is one high.
function height(frame: DataFrame, value: number): number {
  const bounds = buckets(frame).map((row) => bound(row.name));
  const row = bounds.findIndex((le) => value <= le);
  const below = bounds[row - 1] ?? 0, above = bounds[row]!;
  return row + (Number.isFinite(above) ? (value - below) / (above - below) : 0.5);
}

interface Colours { most: number; of: (count: number) => string }

// scheme gives counts colours; in the dark, the most are the lightest.
function scheme(panel: HeatmapPanel, theme: GrafanaTheme2, most: number): Colours {
  const { color } = panel.options;
  const interpolate = (chromatic as unknown as Record<string, (share: number) => string>)[`interpolate${color.scheme}`];
  if (!interpolate || color.mode !== "scheme" || color.scale !== "exponential") throw new Error(`nobody draws the colours ${color.mode} ${color.scheme} ${color.scale}`);
  return { most, of: (count) => {
    const share = (count / most) ** color.exponent;
    return interpolate(theme.isDark !== color.reverse ? 1 - share : share);
  } };
}

function configured(frame: DataFrame, panel: HeatmapPanel, theme: GrafanaTheme2, range: TimeRange): UPlotConfigBuilder {
  const rows = buckets(frame), times = frame.fields[0]!.values as number[];
  const colours = scheme(panel, theme, Math.max(...rows.flatMap((row) => row.values)));
  const format = getValueFormat(panel.options.yAxis.unit);
  const config = new UPlotConfigBuilder("utc");
  config.addScale({ scaleKey: "x", isTime: true, orientation: ScaleOrientation.Horizontal, direction: ScaleDirection.Right, range: [range.from.valueOf(), range.to.valueOf()] });
  config.addAxis({ scaleKey: "x", isTime: true, placement: AxisPlacement.Bottom, timeZone: "utc", theme });
  config.addScale({ scaleKey: "y", orientation: ScaleOrientation.Vertical, direction: ScaleDirection.Up, range: [0, rows.length] });
  const labels = ["", ...rows.map((row) => Number.isFinite(bound(row.name)) ? formattedValueToString(format(bound(row.name))) : row.name)];
  config.addAxis({ scaleKey: "y", placement: AxisPlacement.Left, theme, splits: labels.map((_, i) => i), values: labels, filter: (_, splits) => splits.map((split) => split % 2 ? split : null) });
  for (const _ of rows) config.addSeries({ scaleKey: "y", theme, pathBuilder: () => null, pointsBuilder: () => false, show: true });
  const least = panel.options.filterValues?.le ?? 0, gap = panel.options.cellGap ?? 0;
  config.addHook("draw", (u) => {
    const step = Math.min(...times.slice(1).map((time, i) => time - times[i]!));
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    rows.forEach((row, y) => times.forEach((time, i) => {
      if (!(row.values[i] > least)) return;
      const left = u.valToPos(time - step, "x", true), top = u.valToPos(y + 1, "y", true);
      u.ctx.fillStyle = colours.of(row.values[i]);
      u.ctx.fillRect(left + gap / 2, top + gap / 2, Math.max(u.valToPos(time, "x", true) - left - gap, 1), u.valToPos(y, "y", true) - top - gap);
    }));
    u.ctx.restore();
  });
  return config;
}

function Legend({ most, of }: Colours) {
  const stops = Array.from({ length: 11 }, (_, i) => of((most * i) / 10));
  return (
    <div data-colours style={{ display: "flex", alignItems: "center", gap: 8, fontSize: 12 }}>
      0<div style={{ width: 200, height: 8, background: `linear-gradient(to right, ${stops.join(", ")})` }} />{most.toFixed(0)}
    </div>
  );
}
