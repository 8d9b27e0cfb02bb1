package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// podDiagnosis is what the doctor found about the pods around brokers. Its
// JSON is part of the contract with scripts.
type podDiagnosis struct {
	Pods []podFindings `json:"pods"`
}

type podFindings struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"` // no step has failed
	Steps []step `json:"steps"`
}

func (d *podDiagnosis) add(name string, steps []step) {
	found := podFindings{Name: name, OK: true, Steps: steps}
	for _, s := range steps {
		found.OK = found.OK && s.State != stepFailed
	}
	d.Pods = append(d.Pods, found)
}

// diagnosePod looks at the pod that this process is in.
func diagnosePod(std stdio, options doctorOptions) error {
	if err := options.checkFormat(); err != nil {
		return err
	}
	p, _, err := readPolicy(options.config, "")
	if err != nil {
		return err
	}
	facts := podFactsOf(p, options.socketDir, options.socketFolders, brokerUndumpable())
	facts.imds = askIMDS(imdsURL)
	var found podDiagnosis
	found.add("this pod", guardrails(facts, p))
	return found.report(std.out, options.format)
}

// diagnoseManifest looks at the pods of a manifest; "-" is the standard input.
func diagnoseManifest(stdin io.Reader, std stdio, options doctorOptions) error {
	if err := options.checkFormat(); err != nil {
		return err
	}
	in := stdin
	if options.pod != "-" {
		file, err := os.Open(options.pod)
		if err != nil {
			return fail(exitError, fmt.Errorf("the manifest cannot be read: %w", err), "kubectl get pod NAME -o yaml | credfree doctor --pod -")
		}
		defer file.Close()
		in = file
	}
	pods, err := readManifests(in)
	if err != nil {
		return fail(exitError, err, "kubectl get pod NAME -o yaml | credfree doctor --pod -")
	}
	var found podDiagnosis
	for _, pod := range pods {
		found.add(pod.name, guardManifest(pod, options.container))
	}
	return found.report(std.out, options.format)
}

// report prints what was found, and returns an error when something has failed.
func (d *podDiagnosis) report(w io.Writer, format string) error {
	err := error(nil)
	if format == "json" {
		err = encodeJSON(w, d)
	} else {
		err = d.writeText(w)
	}
	if err != nil {
		return err
	}
	for _, found := range d.Pods {
		if !found.OK {
			return &failure{code: exitError, err: errUnwell{}}
		}
	}
	return nil
}

func (d *podDiagnosis) writeText(w io.Writer) error {
	var b strings.Builder
	well := 0
	for _, found := range d.Pods {
		if found.OK {
			well++
		}
		b.WriteString(oneLine(found.Name) + "\n")
		for _, s := range found.Steps {
			s.writeText(&b)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "%s, %d well\n", count(len(d.Pods), "pod", "pods"), well)
	_, err := io.WriteString(w, b.String())
	return err
}
