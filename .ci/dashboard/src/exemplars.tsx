import { createDataFrame, FieldType, type DataFrame } from "@grafana/data";
import { EventsCanvas, useTheme2, type UPlotConfigBuilder } from "@grafana/ui";
import { useCallback, useLayoutEffect, useMemo, useRef } from "react";
import type uPlot from "uplot";
import type { Exemplar } from "./prometheus";

// Exemplars stand over a graph, at the height of their value, as diamonds.
export function Exemplars({ config, exemplars }: { config: UPlotConfigBuilder; exemplars: Exemplar[] }) {
  const theme = useTheme2();
  const plot = useRef<uPlot>(null);
  useLayoutEffect(() => config.addHook("init", (u) => { plot.current = u; }), [config]);
  const events = useMemo(() => exemplars.length === 0 ? [] : [createDataFrame({ fields: [
    { name: "Time", type: FieldType.time, config: {}, values: exemplars.map((e) => e.time) },
    { name: "Value", type: FieldType.number, config: {}, values: exemplars.map((e) => e.value) },
  ] })], [exemplars]);
  const at = useCallback((frame: DataFrame, row: number) => {
    const u = plot.current;
    if (!u) return undefined;
    const scale = config.scales.find((s) => s.props.scaleKey !== "x")?.props.scaleKey ?? "y";
    const { min = 0, max = 0 } = u.scales[scale] ?? {};
    const value = Math.min(Math.max(frame.fields[1]!.values[row], min ?? 0), max ?? 0);
    return { x: u.valToPos(frame.fields[0]!.values[row], "x"), y: u.valToPos(value, scale) };
  }, [config]);
  const diamond = useCallback(() => (
    <svg data-exemplar width="8" height="8" viewBox="0 0 8 8" style={{ display: "block", transform: "translate(-50%, -50%)" }}><path d="M4 0 8 4 4 8 0 4Z" fill={theme.colors.primary.text} /></svg>
  ), [theme]);
  return <EventsCanvas id="exemplars" config={config} events={events} renderEventMarker={diamond} mapEventToXYCoords={at} />;
}
