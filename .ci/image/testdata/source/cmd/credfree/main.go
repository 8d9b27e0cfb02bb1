// Command credfree stands in for the real one, which takes long to build.
package main

import "fmt"

var version = ""

func main() { fmt.Println(version) }
