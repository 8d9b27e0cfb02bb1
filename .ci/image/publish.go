package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const sbomType = "application/spdx+json"

// build makes the images of all platforms and writes them as one OCI layout:
// an index of the images, and per image its bill of materials, which points at it.
func (s settings) build(ctx context.Context, stdout io.Writer) error {
	tag, err := name.NewTag(s.name + ":" + strings.ReplaceAll(s.version, "+", "_"))
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(mutate.Annotations(empty.Index, s.labels()).(v1.ImageIndex), types.OCIImageIndex)
	var bills []v1.Image
	for _, text := range s.platforms {
		platform, err := v1.ParsePlatform(text)
		if err != nil {
			return err
		}
		binary, err := s.compile(ctx, *platform)
		if err != nil {
			return err
		}
		works, err := s.works(ctx, *platform)
		if err != nil {
			return err
		}
		texts := licenses(works)
		if err := os.WriteFile(binary+".licenses.txt", texts, 0o644); err != nil {
			return err
		}
		img, err := s.image(binary, *platform, texts)
		if err != nil {
			return err
		}
		bill, err := s.attachBill(binary, *platform, img, works)
		if err != nil {
			return err
		}
		bills = append(bills, bill)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: platform}})
		if s.archive {
			at := filepath.Join(s.out, fmt.Sprintf("credfree-%s-%s.tar", platform.OS, platform.Architecture))
			if err := tarball.WriteToFile(at, tag, img); err != nil {
				return err
			}
		}
		if err := s.describe(stdout, platform, img); err != nil {
			return err
		}
	}
	at := filepath.Join(s.out, "oci")
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	path, err := layout.Write(at, empty.Index)
	if err != nil {
		return err
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": s.version})); err != nil {
		return err
	}
	for _, bill := range bills {
		if err := path.AppendImage(bill); err != nil {
			return err
		}
	}
	if s.push {
		if err := upload(ctx, tag, index, bills); err != nil {
			return err
		}
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "index %s %s\n", tag, digest)
	return err
}

// upload pushes the index under its tag, and the bills, which are found by what
// they refer to.
func upload(ctx context.Context, tag name.Tag, index v1.ImageIndex, bills []v1.Image) error {
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(tag, index, options...); err != nil {
		return err
	}
	for _, bill := range bills {
		digest, err := bill.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(tag.Context().Digest(digest.String()), bill, options...); err != nil {
			return err
		}
	}
	return nil
}

// attachBill writes the bill of materials, and wraps it as an artifact that
// refers to the image.
func (s settings) attachBill(binary string, platform v1.Platform, img v1.Image, works []work) (v1.Image, error) {
	digest, err := img.Digest()
	if err != nil {
		return nil, err
	}
	bill, err := s.bill(binary, platform, digest.String(), works)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(s.out, fmt.Sprintf("credfree-%s-%s.spdx.json", platform.OS, platform.Architecture)), bill, 0o644); err != nil {
		return nil, err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	size, err := img.Size()
	if err != nil {
		return nil, err
	}
	artifact := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), sbomType)
	if artifact, err = mutate.AppendLayers(artifact, static.NewLayer(bill, sbomType)); err != nil {
		return nil, err
	}
	subject := v1.Descriptor{MediaType: manifest.MediaType, Digest: digest, Size: size}
	return mutate.Subject(artifact, subject).(v1.Image), nil
}

func (s settings) describe(stdout io.Writer, platform *v1.Platform, img v1.Image) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	var packed int64
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return err
		}
		packed += size
	}
	_, err = fmt.Fprintf(stdout, "image %s %s, %.1f MB to pull\n", platform, digest, float64(packed)/1e6)
	return err
}
