package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// build runs the command on the stand-in, and returns its folder and output.
func build(t *testing.T, args ...string) (dir, output string) {
	t.Helper()
	dir = t.TempDir()
	var stdout bytes.Buffer
	args = append([]string{"--source", "testdata/source", "--out", dir, "--version", "1.2.3", "--revision", "abc", "--created", "2026-11-27T00:00:00Z"}, args...)
	if err := run(t.Context(), args, &stdout); err != nil {
		t.Fatal(err)
	}
	return dir, stdout.String()
}

// TestReproducible builds twice, in different folders.
func TestReproducible(t *testing.T) {
	_, first := build(t)
	_, second := build(t)
	if first != second || !regexp.MustCompile(`(?m)^index ghcr.io/credfree/credfree:1.2.3 sha256:[0-9a-f]{64}$`).MatchString(first) {
		t.Errorf("got\n%s\nthen\n%s", first, second)
	}
}

// files are what is in an image, by name.
func files(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		reader := tar.NewReader(content)
		for {
			header, err := reader.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(reader)
			if err != nil {
				t.Fatal(err)
			}
			found[header.Name] = string(text)
			if header.Mode&0o022 != 0 {
				t.Errorf("%s has mode %o: others may write to it", header.Name, header.Mode)
			}
		}
	}
	return found
}

func TestImage(t *testing.T) {
	dir, _ := build(t, "--archive")
	img, err := tarball.ImageFromPath(filepath.Join(dir, "credfree-linux-"+runtime.GOARCH+".tar"), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || strings.Join(config.Config.Entrypoint, " ") != "/credfree" || config.Architecture != runtime.GOARCH ||
		config.Config.Labels["org.opencontainers.image.revision"] != "abc" || config.Config.Labels["org.opencontainers.image.version"] != "1.2.3" {
		t.Errorf("got %+v", config)
	}
	in := files(t, img)
	for _, name := range []string{"credfree", "etc/ssl/certs/ca-certificates.crt", "etc/passwd"} {
		if in[name] == "" {
			t.Errorf("the image has no %s", name)
		}
	}
	for _, want := range []string{"\nexample.com/tiny\n\nThe stand-in's licence.\n", "\nstdlib\n\nCopyright 2009 The Go Authors."} {
		if !strings.Contains(in["LICENSES"], want) {
			t.Errorf("the image's licences are without %q: %.300q", want, in["LICENSES"])
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(in["etc/ssl/certs/ca-certificates.crt"])) || strings.Count(in["etc/ssl/certs/ca-certificates.crt"], "BEGIN CERTIFICATE") < 100 {
		t.Error("the image has few root certificates")
	}
	program := filepath.Join(t.TempDir(), "credfree")
	if err := os.WriteFile(program, []byte(in["credfree"]), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program).Output(); err != nil || string(out) != "1.2.3\n" {
		t.Errorf("the program says %q (%v), want its version", out, err)
	}
}

// TestLayoutHasItsBills: the index has all platforms, and each image a bill of
// materials that names what is linked.
func TestLayoutHasItsBills(t *testing.T) {
	dir, _ := build(t)
	path, err := layout.FromPath(filepath.Join(dir, "oci"))
	if err != nil {
		t.Fatal(err)
	}
	top, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil || len(manifest.Manifests) != 3 {
		t.Fatalf("got %d entries (%v), want the index and two bills", len(manifest.Manifests), err)
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	images, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"linux/amd64", "linux/arm64"} {
		if got := images.Manifests[i].Platform.String(); got != want {
			t.Errorf("got platform %s, want %s", got, want)
		}
		bill, err := top.Image(manifest.Manifests[i+1].Digest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := bill.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if m.Subject == nil || m.Subject.Digest != images.Manifests[i].Digest || m.Subject.Size != images.Manifests[i].Size {
			t.Errorf("the bill of %s refers to %v", want, m.Subject)
		}
	}
}

func TestBill(t *testing.T) {
	dir, _ := build(t, "--platforms", "linux/amd64")
	text, err := os.ReadFile(filepath.Join(dir, "credfree-linux-amd64.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d document
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{d.ID: true}
	for _, p := range d.Packages {
		if !regexp.MustCompile(`^SPDXRef-[a-zA-Z0-9.-]+$`).MatchString(p.ID) || ids[p.ID] || p.Name == "" || p.Download == "" || !strings.HasPrefix(p.Refs[0].Locator, "pkg:golang/") {
			t.Errorf("got package %+v", p)
		}
		ids[p.ID] = true
	}
	if got := d.Packages[1]; got.Name != "stdlib" || got.Declared != "BSD-3-Clause" || got.License != "NOASSERTION" {
		t.Errorf("got %+v", got)
	}
	for _, r := range d.Relationships {
		if !ids[r.From] || !ids[r.To] {
			t.Errorf("got a relationship of strangers, %+v", r)
		}
	}
	if d.Version != "SPDX-2.3" || d.License != "CC0-1.0" || len(d.Packages) < 2 || len(d.Relationships) != len(d.Packages) || !strings.HasPrefix(d.Namespace, "https://") || d.Creation.Created != "2026-11-27T00:00:00Z" {
		t.Errorf("got %s", text)
	}
}

// TestPush pushes to a registry, and looks there.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true)))
	defer server.Close()
	repository := strings.TrimPrefix(server.URL, "http://") + "/credfree"
	_, output := build(t, "--name", repository, "--push", "--platforms", "linux/amd64")
	tag, err := name.NewTag(repository + ":1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil || !strings.Contains(output, digest.String()) {
		t.Errorf("the registry has %s (%v), and was said to have\n%s", digest, err, output)
	}
	images, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	referrers, err := remote.Referrers(tag.Context().Digest(images.Manifests[0].Digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	bills, err := referrers.IndexManifest()
	if err != nil || len(bills.Manifests) != 1 || bills.Manifests[0].ArtifactType != sbomType {
		t.Errorf("the image has %+v (%v), want its bill", bills, err)
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{}, {"--out", t.TempDir(), "extra"}, {"--out", t.TempDir(), "--created", "yesterday"}, {"--out", t.TempDir(), "--platforms", "x/y/z/w/v"}, {"--out", t.TempDir(), "--version", "a b"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%v: got an image", args)
		}
	}
}
