// Asks a Prometheus over HTTP, and makes frames of its answers in the shape that
// Grafana's Prometheus source gives to panels.
import { createDataFrame, DataFrameType, FieldType, type DataFrame, type Labels } from "@grafana/data";
import type { Query } from "./shape";

type Sample = [number, string];
interface Series { metric: Labels; values?: Sample[]; value?: Sample }
export interface Exemplar { time: number; value: number; traceID: string }

export class Prometheus {
  constructor(private readonly url: string) {}

  private async get<T>(path: string, query: Record<string, string>): Promise<T> {
    const answer = await fetch(`${this.url}/api/v1/${path}?${new URLSearchParams(query)}`);
    const body = await answer.json();
    if (body.status !== "success" || body.warnings?.length || body.infos?.length) {
      throw new Error(`${path} ${JSON.stringify(query)}: ${body.error ?? [body.warnings, body.infos].flat().join("; ")}`);
    }
    return body.data;
  }

  labelValues(label: string, match: string): Promise<string[]> {
    return this.get(`label/${label}/values`, { "match[]": match });
  }

  // frames asks from and to these seconds, at this step.
  async frames(query: Query, expr: string, from: number, to: number, step: number): Promise<DataFrame[]> {
    if (Boolean(query.instant) === Boolean(query.range)) throw new Error(`${query.refId} is to be either instant or of a range`);
    const { result } = query.instant
      ? await this.get<{ result: Series[] }>("query", { query: expr, time: String(to) })
      : await this.get<{ result: Series[] }>("query_range", { query: expr, start: String(from), end: String(to), step: String(step) });
    for (const [, label] of (query.legendFormat ?? "").matchAll(written)) {
      if (result.length > 0 && !result.some((series) => label! in series.metric)) throw new Error(`nothing has the label ${label} of the legend ${query.legendFormat}`);
    }
    switch (query.format) {
      case "table": return tables(query, result);
      case "heatmap": return heatmap(query, result);
      default: return result.map((series) => line(query, series, expr, step));
    }
  }

  // exemplars are the greatest of each of so many slices of the time, of all series.
  async exemplars(expr: string, from: number, to: number, slices = 30): Promise<Exemplar[]> {
    const all = await this.get<{ exemplars: { labels: Labels; value: string; timestamp: number }[] }[]>("query_exemplars", { query: expr, start: String(from), end: String(to) });
    const greatest = new Map<number, Exemplar>();
    for (const { labels, value, timestamp } of all.flatMap((series) => series.exemplars)) {
      const slice = Math.floor(((timestamp - from) / (to - from)) * slices);
      const exemplar = { time: timestamp * 1000, value: Number(value), traceID: labels.trace_id ?? "" };
      if (timestamp >= from && (greatest.get(slice)?.value ?? -1) < exemplar.value) greatest.set(slice, exemplar);
    }
    return [...greatest.values()];
  }
}

const written = /\{\{\s*(.+?)\s*\}\}/g; // labels in a legend
const number = (text: string) => Number(text.replace("Inf", "Infinity"));
const points = (series: Series) => series.values ?? (series.value ? [series.value] : []);

// named is what the legend says; without a format, or where nothing is left of it,
// what Prometheus calls the series.
function named(query: Query, labels: Labels, expr: string): string | undefined {
  if (query.legendFormat) return query.legendFormat.replace(written, (_, label: string) => labels[label] ?? "") || undefined;
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${value}"`).join(", ");
  return pairs ? `{${pairs}}` : expr;
}

function line(query: Query, series: Series, expr: string, step: number): DataFrame {
  return createDataFrame({
    refId: query.refId,
    name: named(query, series.metric, expr),
    meta: { type: query.instant ? DataFrameType.NumericMulti : DataFrameType.TimeSeriesMulti },
    fields: [
      { name: "Time", type: FieldType.time, config: { interval: step * 1000 }, values: points(series).map(([time]) => time * 1000) },
      { name: "Value", type: FieldType.number, labels: series.metric, config: { displayNameFromDS: named(query, series.metric, expr) }, values: points(series).map(([, value]) => number(value)) },
    ],
  });
}

function tables(query: Query, result: Series[]): DataFrame[] {
  if (result.length === 0) return [];
  const labels = [...new Set(result.flatMap((series) => Object.keys(series.metric)))].sort();
  const rows = result.flatMap((series) => points(series).map(([time, value]) => ({ time: time * 1000, value: number(value), metric: series.metric })));
  return [createDataFrame({
    refId: query.refId,
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: rows.map((row) => row.time) },
      ...labels.map((label) => ({ name: label, type: FieldType.string, config: { filterable: true }, values: rows.map((row) => row.metric[label] ?? "") })),
      { name: "Value", type: FieldType.number, config: {}, values: rows.map((row) => row.value) },
    ],
  })];
}

// heatmap has a field for each bucket, by its upper bound, with what is in it alone:
// Prometheus counts what is in the smaller ones too.
function heatmap(query: Query, result: Series[]): DataFrame[] {
  const sorted = result.toSorted((a, b) => number(a.metric.le!) - number(b.metric.le!));
  if (sorted.length === 0) return [];
  // Prometheus calls a bucket 1.0 when it scrapes it, and 1 when it is sent.
  if (new Set(sorted.map((series) => number(series.metric.le!))).size !== sorted.length) throw new Error(`buckets are there twice: ${sorted.map((series) => series.metric.le)}`);
  const times = [...new Set(sorted.flatMap((series) => points(series).map(([time]) => time)))].sort((a, b) => a - b);
  const counts = sorted.map((series) => new Map(points(series).map(([time, value]) => [time, number(value)])));
  return [createDataFrame({
    refId: query.refId,
    meta: { type: DataFrameType.HeatmapRows },
    fields: [
      { name: "Time", type: FieldType.time, config: {}, values: times.map((time) => time * 1000) },
      ...sorted.map((series, i) => ({
        name: named(query, series.metric, "") ?? "", type: FieldType.number, labels: series.metric, config: {},
        values: times.map((time) => Math.max((counts[i]!.get(time) ?? 0) - (counts[i - 1]?.get(time) ?? 0), 0)),
      })),
    ],
  })];
}
