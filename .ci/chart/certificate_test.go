package chart

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"strconv"
	"testing"
	"time"

	admission "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// stored is the Secret of an earlier installation, as a lookup finds it.
func stored(s *core.Secret, renewAfter time.Time) *unstructured.Unstructured {
	annotations, data := map[string]any{}, map[string]any{}
	for key, value := range s.Annotations {
		annotations[key] = value
	}
	annotations["credfree.dev/renew-after"] = strconv.FormatInt(renewAfter.Unix(), 10)
	for key, value := range s.Data {
		data[key] = base64.StdEncoding.EncodeToString(value)
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "data": data,
		"metadata": map[string]any{"name": s.Name, "namespace": s.Namespace, "annotations": annotations}}}
}

// trusts says whether the API server takes the certificate of a Secret.
func trusts(t *testing.T, hook *admission.MutatingWebhookConfiguration, s *core.Secret) bool {
	t.Helper()
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(hook.Webhooks[0].ClientConfig.CABundle)
	client := hook.Webhooks[0].ClientConfig.Service
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: client.Name + "." + client.Namespace + ".svc", KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err == nil
}

// TestCertificates: made once, kept by upgrades, and replaced without a moment
// in which the API server trusts none.
func TestCertificates(t *testing.T) {
	c := load(t, "charts/credfree")
	all := mustRender(t, c, "", cluster{})
	first, hook := one[*core.Secret](t, all), one[*admission.MutatingWebhookConfiguration](t, all)
	if !trusts(t, hook, first) {
		t.Fatal("the API server does not trust what was just made")
	}
	if len(first.Data) != 3 {
		t.Errorf("the Secret has %d entries: the key of the authority is nobody's", len(first.Data))
	}
	future := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		values string
		renew  time.Time
		kept   bool
	}{
		"an upgrade":         {"", future, true},
		"on demand":          {"certificates: {helm: {rotate: '2026-11'}}", future, false},
		"in its last third":  {"", time.Now().Add(-time.Minute), false},
		"of another service": {"fullnameOverride: other", future, false},
	} {
		t.Run(name, func(t *testing.T) {
			there := stored(first, test.renew)
			if test.values == "fullnameOverride: other" {
				there.SetName("other-tls")
			}
			all := mustRender(t, c, test.values, cluster{there})
			second, hook := one[*core.Secret](t, all), one[*admission.MutatingWebhookConfiguration](t, all)
			if kept := bytes.Equal(first.Data["tls.crt"], second.Data["tls.crt"]); kept != test.kept {
				t.Fatalf("kept: %v, want %v", kept, test.kept)
			}
			if !trusts(t, hook, second) {
				t.Error("the API server does not trust the certificate")
			}
			if name == "of another service" {
				return
			}
			if !trusts(t, hook, first) { // which the pods show until kubelet has brought the new one
				t.Error("the API server does not trust the certificate that is still in use")
			}
			if bytes.Equal(first.Data["ca.crt"], second.Data["ca.crt"]) != test.kept {
				t.Error("the authority is not that of the certificate")
			}
		})
	}
}
