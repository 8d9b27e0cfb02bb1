// Command mkimg writes an image of one layer, as an archive that ctr imports:
//
//	mkimg -o x.tar -t name:tag [-user 65532:65532] src:/dst... -- /entrypoint arguments...
//
// A source is a file, which keeps its mode, or a folder, with all that is in it.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	out, tag, user := flag.String("o", "image.tar", "archive to write"), flag.String("t", "", "name:tag"), flag.String("user", "", "uid:gid")
	flag.Parse()
	sources, entrypoint := flag.Args(), []string{}
	if i := slices.Index(sources, "--"); i >= 0 {
		sources, entrypoint = sources[:i], sources[i+1:]
	}
	if err := write(*out, *tag, *user, sources, entrypoint); err != nil {
		log.Fatal(err)
	}
}

// layer is the one layer of an image.
type layer struct {
	tar  *tar.Writer
	made map[string]bool // what is in it already
}

func (l *layer) folder(name string) error {
	if name == "." || name == "/" || name == "" || l.made[name] {
		return nil
	}
	if err := l.folder(path.Dir(name)); err != nil {
		return err
	}
	l.made[name] = true
	return l.tar.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755})
}

// add adds what is at src as dst, without a slash at its beginning.
func (l *layer) add(src, dst string) error {
	return filepath.WalkDir(src, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(src, at)
		if err != nil {
			return err
		}
		name := path.Join(dst, filepath.ToSlash(below))
		info, err := entry.Info()
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return l.folder(name)
		case l.made[name]:
			return nil
		}
		if err := l.folder(path.Dir(name)); err != nil {
			return err
		}
		l.made[name] = true
		if entry.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(at)
			if err != nil {
				return err
			}
			return l.tar.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777})
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if err := l.tar.WriteHeader(&tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = l.tar.Write(data)
		return err
	})
}

func write(out, tag, user string, sources, entrypoint []string) error {
	var content bytes.Buffer
	l := &layer{tar: tar.NewWriter(&content), made: map[string]bool{}}
	for _, source := range sources {
		src, dst, ok := strings.Cut(source, ":/")
		if !ok {
			return fmt.Errorf("want src:/dst, got %q", source)
		}
		if err := l.add(src, dst); err != nil {
			return err
		}
	}
	if !l.made["tmp"] {
		if err := l.tar.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			return err
		}
	}
	if err := l.tar.Close(); err != nil {
		return err
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(content.Bytes()))
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config":  map[string]any{"Entrypoint": entrypoint, "User": user, "WorkingDir": "/", "Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin:/"}},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum}},
		"history": []any{map[string]any{"created_by": "mkimg"}},
	})
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": []string{tag}, "Layers": []string{sum + "/layer.tar"}}})
	if err != nil {
		return err
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(file)
	for _, part := range []struct {
		name string
		data []byte
	}{{configName, config}, {sum + "/layer.tar", content.Bytes()}, {"manifest.json", manifest}} {
		if err := archive.WriteHeader(&tar.Header{Name: part.name, Mode: 0o644, Size: int64(len(part.data))}); err != nil {
			return err
		}
		if _, err := archive.Write(part.data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}
