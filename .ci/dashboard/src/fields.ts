// What a panel makes of its frames before it draws them: transformations, then
// units, colours, names and the rest of its field options.
import {
  applyFieldOverrides, FieldConfigOptionsRegistry, getValueFormats, identityOverrideProcessor, standardTransformers, standardTransformersRegistry, transformDataFrame,
  type DataFrame, type FieldConfigPropertyItem, type FieldConfigSource, type GrafanaTheme2,
} from "@grafana/data";
import { lastValueFrom } from "rxjs";
import type { DrawnPanel } from "./shape";

// One of them is there by two names.
const transformers = new Map(Object.values(standardTransformers).map((transformer) => [transformer.id, transformer]));
standardTransformersRegistry.setInit(() => [...transformers.values()].map((transformer) => ({
  id: transformer.id, name: transformer.name, transformation: async () => transformer, editor: () => null, imageDark: "", imageLight: "",
})));
const units = new Set(getValueFormats().flatMap((group) => group.submenu ?? []).map((unit) => unit.value));

const standard = ["unit", "min", "max", "decimals", "displayName", "noValue", "thresholds", "mappings", "links", "color", "filterable"];

const properties = (panel: DrawnPanel) => (panel.fieldConfig as FieldConfigSource).overrides.flatMap((override) => override.properties);

// registry has each option by its path. Grafana's own has editors for them too, and
// is not published.
function registry(panel: DrawnPanel): FieldConfigOptionsRegistry {
  const overridden = properties(panel).filter((p) => p.id.startsWith("custom.")).map((p) => p.id.slice("custom.".length));
  const custom = new Set([...Object.keys(panel.fieldConfig.defaults.custom), ...overridden]);
  const item = (path: string, isCustom: boolean): FieldConfigPropertyItem => ({
    id: isCustom ? `custom.${path}` : path, path, name: path, isCustom, process: identityOverrideProcessor, shouldApply: () => true, editor: () => null, override: () => null,
  });
  return new FieldConfigOptionsRegistry(() => [...standard.map((path) => item(path, false)), ...[...custom].map((path) => item(path, true))]);
}

// source is the field options as they are in memory: the first threshold has no
// bound, which JSON writes as null.
function source(panel: DrawnPanel): FieldConfigSource {
  const config = structuredClone(panel.fieldConfig) as FieldConfigSource;
  for (const step of config.defaults.thresholds?.steps ?? []) step.value ??= -Infinity;
  return config;
}

export async function prepared(panel: DrawnPanel, frames: DataFrame[], theme: GrafanaTheme2): Promise<DataFrame[]> {
  for (const { id } of panel.transformations ?? []) if (!standardTransformersRegistry.getIfExists(id)) throw new Error(`nobody knows the transformation ${id}`);
  const asked = [panel.fieldConfig.defaults.unit, ...properties(panel).filter((p) => p.id === "unit").map((p) => p.value)];
  for (const unit of asked) if (!units.has(String(unit))) throw new Error(`nobody knows the unit ${String(unit)}`);
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames));
  return applyFieldOverrides({ data: transformed, fieldConfig: source(panel), fieldConfigRegistry: registry(panel), replaceVariables: (text) => text, theme, timeZone: "utc" });
}
