package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// uid of the image. In an injected pod the broker gets another one.
const user = "65532"

// compile makes the static binary of one platform.
func (s settings) compile(ctx context.Context, platform v1.Platform) (string, error) {
	binary := filepath.Join(s.out, fmt.Sprintf("credfree-%s-%s", platform.OS, platform.Architecture))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+s.version, "-o", binary, "./cmd/credfree")
	cmd.Dir, cmd.Env, cmd.Stderr = s.source, environment(platform), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go build for %s: %w", platform, err)
	}
	return binary, nil
}

func environment(platform v1.Platform) []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture, "GOFLAGS=")
}

// file is one entry of a layer.
type file struct {
	name    string // "…/" is a folder
	mode    int64
	content []byte
}

// layer packs files of root, all of one time.
func (s settings) layer(files []file) (v1.Layer, error) {
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: s.created, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := writer.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	text := buffer.Bytes()
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
		tarball.WithMediaType(types.OCILayer))
}

// roots are Mozilla's, from a pinned Go module: the same on every machine.
func roots() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil { // a file cannot say what a root is limited to
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes everything
		}
	}
	return text.Bytes()
}

// image puts a binary, and the licences of what it contains, into an image of
// its own.
func (s settings) image(binary string, platform v1.Platform, licenses []byte) (v1.Image, error) {
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	base, err := s.layer([]file{
		{name: "etc/", mode: 0o755}, {name: "etc/ssl/", mode: 0o755}, {name: "etc/ssl/certs/", mode: 0o755},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, content: roots()},
		{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0::/:/\ncredfree:x:" + user + ":" + user + "::/:/\n")},
		{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\ncredfree:x:" + user + ":\n")},
	})
	if err != nil {
		return nil, err
	}
	top, err := s.layer([]file{{name: "LICENSES", mode: 0o644, content: licenses}, {name: "credfree", mode: 0o755, content: program}})
	if err != nil {
		return nil, err
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err = mutate.Append(img,
		mutate.Addendum{Layer: base, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "root certificates of Mozilla"}},
		mutate.Addendum{Layer: top, MediaType: types.OCILayer, History: v1.History{Created: v1.Time{Time: s.created}, CreatedBy: "go build ./cmd/credfree"}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = platform.OS, platform.Architecture, v1.Time{Time: s.created}
	config.Config = v1.Config{User: user + ":" + user, Entrypoint: []string{"/credfree"}, WorkingDir: "/", Labels: s.labels()}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, err
	}
	return mutate.Annotations(img, s.labels()).(v1.Image), nil
}

// labels are those of the OCI image specification.
func (s settings) labels() map[string]string {
	const prefix = "org.opencontainers.image."
	labels := map[string]string{
		prefix + "title":       "credfree",
		prefix + "description": "A local sidecar token broker for credential-free AI agents",
		prefix + "url":         "https://github.com/credfree/credfree",
		prefix + "source":      "https://github.com/credfree/credfree",
		prefix + "licenses":    "MIT",
		prefix + "version":     s.version,
		prefix + "created":     s.created.UTC().Format("2006-01-02T15:04:05Z"),
	}
	if s.revision != "" {
		labels[prefix+"revision"] = s.revision
	}
	return labels
}
