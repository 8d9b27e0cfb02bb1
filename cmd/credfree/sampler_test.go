package main

import "testing"

func TestSamplersAreUnderstood(t *testing.T) {
	for variables, want := range map[[2]string]string{
		{"", ""}: "always_on", {"always_off", ""}: "always_off", {"traceidratio", "0.01"}: "traceidratio 0.01", {"traceidratio", ""}: "traceidratio",
		{"sometimes", ""}: "", {"traceidratio", "many"}: "", {"parentbased_traceidratio", "2"}: "", {"traceidratio", "-1"}: "", {"traceidratio", "NaN"}: "",
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", variables[0])
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", variables[1])
		got, hits, ok := samplerFromEnv()
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %t, want %q", variables, got, ok, want)
		}
		if !ok && (got != "always_on" || hits != nil) {
			t.Errorf("%q: got %q: what is not understood is to want all", variables, got)
		}
	}
}
