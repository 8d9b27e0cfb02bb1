package issuance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/credfree/credfree/broker/issuance"
)

// ocsf says what of the names in class 3002, Authentication, of OCSF 1.2.0 the
// lines may use, and of which type each is. What is required begins with "!".
var ocsf = map[string]string{
	"activity_id": "!number", "activity_name": "text", "category_uid": "!number", "category_name": "text", "class_uid": "!number", "class_name": "text",
	"type_uid": "!number", "type_name": "text", "severity_id": "!number", "severity": "text", "status_id": "number", "status": "text",
	"status_code": "text", "status_detail": "text", "time": "!number", "auth_protocol_id": "number", "auth_protocol": "text",
	"metadata": "!object", "metadata.version": "!text", "metadata.product": "!object", "metadata.product.name": "text", "metadata.product.vendor_name": "!text",
	"metadata.log_name": "text", "metadata.event_code": "text", "metadata.uid": "text", "metadata.correlation_uid": "text", "metadata.tenant_uid": "text",
	"user": "!object", "user.name": "text", "user.uid": "text", "user.domain": "text", "user.type": "text", "user.type_id": "number",
	"actor": "object", "actor.app_name": "text", "actor.user": "object", "actor.user.uid": "text", "actor.user.type": "text", "actor.user.type_id": "number",
	"service": "!object", "service.name": "!text", // one of service and dst_endpoint is required
	"session": "object", "session.uid": "text", "session.expiration_time": "number",
	"unmapped": "!object",
}

// walk checks the names and types of an object, and gathers its paths.
func walk(t *testing.T, prefix string, object map[string]any, paths map[string]bool) {
	t.Helper()
	for name, value := range object {
		path := prefix + name
		want, known := ocsf[path]
		got := map[reflect.Kind]string{reflect.Float64: "number", reflect.String: "text", reflect.Map: "object"}[reflect.ValueOf(value).Kind()]
		if !known || strings.TrimPrefix(want, "!") != got || got == "text" && value == "" {
			t.Errorf("%s is %v, want %q", path, value, want)
		}
		paths[path] = true
		if inner, ok := value.(map[string]any); ok && path != "unmapped" {
			walk(t, path+".", inner, paths)
		}
	}
}

// Every line of every outcome, with each field alone and with all, is an event
// of OCSF, and keeps the native line whole.
func TestOCSF(t *testing.T) {
	var sink, native bytes.Buffer
	recorder := func(w *bytes.Buffer, format issuance.Format) *issuance.Recorder {
		r, err := issuance.NewRecorder(issuance.Config{Audit: w, Format: format, Tracer: sdktrace.NewTracerProvider().Tracer("test")})
		check(t, err)
		return r
	}
	toOCSF, toNative := recorder(&sink, issuance.OCSF), recorder(&native, issuance.Native)
	seen := map[string]bool{}
	write := func(rec issuance.Record) {
		sink.Reset()
		native.Reset()
		again := rec
		check(t, toOCSF.Close(t.Context(), &rec))
		check(t, toNative.Close(t.Context(), &again))
		var event, line map[string]any
		check(t, json.Unmarshal(sink.Bytes(), &event))
		check(t, json.Unmarshal(native.Bytes(), &line))
		paths := map[string]bool{}
		walk(t, "", event, paths)
		for path, kind := range ocsf {
			if strings.HasPrefix(kind, "!") && !paths[path] {
				t.Errorf("%s is missing in %s", path, sink.String())
			}
			seen[path] = seen[path] || paths[path]
		}
		if event["type_uid"] != event["class_uid"].(float64)*100+event["activity_id"].(float64) || event["class_uid"] != 3002.0 || event["category_uid"] != 3.0 {
			t.Errorf("got %s", sink.String())
		}
		if user := event["user"].(map[string]any); user["name"] == nil && user["uid"] == nil {
			t.Errorf("the user has neither name nor uid: %s", sink.String())
		}
		if (event["status_id"] == 1.0) != (rec.Decision == issuance.Allow) || event["time"] != float64(rec.Start.UnixMilli()) {
			t.Errorf("got %s", sink.String())
		}
		unmapped := event["unmapped"].(map[string]any)
		for _, fields := range []map[string]any{unmapped, line} { // of two spans, at two moments
			delete(fields, "trace_id")
			delete(fields, "span_id")
			delete(fields, "duration_us")
		}
		if diff := cmp.Diff(line, unmapped); diff != "" {
			t.Errorf("unmapped is not the native line: %s", diff)
		}
		if strings.Count(sink.String(), "\n") != 1 || !strings.HasSuffix(sink.String(), "}}\n") {
			t.Errorf("got %q", sink.String())
		}
	}
	for _, decision := range []issuance.Decision{issuance.Allow, issuance.Deny, issuance.Fail} {
		full := base(decision)
		for field := range reflect.TypeFor[issuance.Record]().Fields() {
			if !field.IsExported() || slices.Contains([]string{"Decision", "Pseudonyms"}, field.Name) {
				continue
			}
			rec := base(decision)
			fill(t, &rec, field.Name)
			write(rec)
			if field.Name != "UserHash" {
				fill(t, &full, field.Name)
			}
		}
		full.Decision = decision
		write(full)
	}
	for path := range ocsf {
		if !seen[path] {
			t.Errorf("no line has %s", path)
		}
	}
}

// Odd texts stay what they are in OCSF too.
func TestOCSFEscapes(t *testing.T) {
	var sink bytes.Buffer
	r, err := issuance.NewRecorder(issuance.Config{Audit: &sink, Format: issuance.OCSF})
	check(t, err)
	odd := "a\"b\\c\nd\u2028é\x00"
	check(t, r.Close(t.Context(), &issuance.Record{ID: odd, Start: time.Now(), Agent: odd, Identity: odd, API: odd, UniqueID: odd, Reason: odd, Rule: odd, Decision: issuance.Deny}))
	var event struct {
		Actor   map[string]string
		Service map[string]string
		Session map[string]string
	}
	check(t, json.Unmarshal(sink.Bytes(), &event))
	if got := fmt.Sprint(event.Actor["app_name"], event.Service["name"], event.Session["uid"]); got != odd+odd+odd {
		t.Errorf("got %q", got)
	}
}
