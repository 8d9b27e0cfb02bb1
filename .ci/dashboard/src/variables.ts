// The dashboard's variables and Grafana's own, put into expressions as Grafana's
// Prometheus source does.
import { rangeUtil, type TimeRange } from "@grafana/data";
import type { Shape } from "./shape";
import type { Prometheus } from "./prometheus";

// Values are those of each variable; "$__all" is the choice of all.
export type Values = Record<string, string[]>;

// chosen asks for the values of each variable, in order, and chooses.
export async function chosen(dashboard: Shape, source: Prometheus, choice: Values): Promise<{ values: Values; offered: Values }> {
  const values: Values = {}, offered: Values = {};
  for (const variable of dashboard.templating.list) {
    if (variable.type !== "query") continue;
    const query = variable.query;
    const text = typeof query === "object" ? String(query.query) : "";
    const wanted = /^label_values\((.+), (\w+)\)$/.exec(text);
    if (!wanted || text !== variable.definition) throw new Error(`variable ${variable.name}: ${text}, and ${variable.definition} for the editor`);
    offered[variable.name] = await source.labelValues(wanted[2]!, interpolate(wanted[1]!, dashboard, values));
    values[variable.name] = choice[variable.name] ?? [variable.current?.value ?? []].flat();
  }
  return { values, offered };
}

const escaped = (text: string) => text.replace(/\\/g, "\\\\\\\\").replace(/[$^*{}[\]+?.()|]/g, "\\\\$&");

export function interpolate(text: string, dashboard: Shape, values: Values): string {
  for (const variable of dashboard.templating.list) {
    const its = values[variable.name];
    if (!its) continue;
    const all = its.length === 0 || its.includes("$__all");
    const value = all ? variable.allValue! : its.length === 1 ? escaped(its[0]!) : `(${its.map(escaped).join("|")})`;
    text = text.replaceAll(new RegExp(`\\$${variable.name}\\b|\\$\\{${variable.name}\\}`, "g"), () => value);
  }
  return text;
}

// builtIn puts in what depends on the range and the step.
export function builtIn(text: string, range: TimeRange, step: number, scrape: number): string {
  const spans = {
    __rate_interval: Math.max(step + scrape, 4 * scrape),
    __interval: step,
    __range: Math.round((range.to.valueOf() - range.from.valueOf()) / 1000),
  };
  for (const [name, seconds] of Object.entries(spans)) text = text.replaceAll(new RegExp(`\\$${name}\\b|\\$\\{${name}\\}`, "g"), `${seconds}s`);
  const unknown = /\$\{?[a-z_]\w*/i.exec(text); // $1 is of a regular expression
  if (unknown) throw new Error(`nobody knows the variable ${unknown[0]} in ${text}`);
  return text;
}

// stepOf is the time between two points, in seconds, of a panel so many pixels wide.
export function stepOf(range: TimeRange, width: number, scrape: number): number {
  return Math.max(rangeUtil.calculateInterval(range, width, `${scrape}s`).intervalMs / 1000, 1);
}
