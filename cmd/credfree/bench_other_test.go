//go:build !unix

package main

func cpuTime() float64 { panic("CPU time is measured on unix only") }
