// Package services starts the guest's services in order, waits until they are ready, starts them again
// when they end, and stops them in reverse order.
package services

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// ConfigFile lists the services of a guest.
const ConfigFile = "/etc/sporelet/agent.json"

// Restart says when a service that ended is started again.
type Restart string

const (
	Always    Restart = "always"
	OnFailure Restart = "on-failure"
	Never     Restart = "no"
)

// Spec is one service.
type Spec struct {
	// Name is also that of its log file: letters, digits, dot, dash, underscore.
	Name string            `json:"name"`
	Argv []string          `json:"argv"`
	Env  map[string]string `json:"env"`
	// Restart is "no" by default.
	Restart Restart `json:"restart"`
	// After names services that must be ready first.
	After []string `json:"after"`
	// Ready: without it a service is ready once it runs.
	Ready *Ready `json:"ready"`
	// Oneshot services are ready once they ended with exit code 0.
	Oneshot          bool   `json:"oneshot"`
	WorkingDirectory string `json:"workingDirectory"`
}

// Ready is a sign that a service can be used.
type Ready struct {
	// Socket is a Unix socket that accepts connections.
	Socket string `json:"socket"`
}

// Load reads a config file. None is the same as one without services.
func Load(path string) ([]Spec, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		Services []Spec `json:"services"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := check(config.Services); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return config.Services, nil
}

func check(specs []Spec) error {
	byName := map[string]*Spec{}
	for i := range specs {
		spec := &specs[i]
		switch {
		case !isName(spec.Name):
			return fmt.Errorf("service %d: %q is no name", i+1, spec.Name)
		case byName[spec.Name] != nil:
			return fmt.Errorf("service %s is there twice", spec.Name)
		case len(spec.Argv) == 0:
			return fmt.Errorf("service %s has no argv", spec.Name)
		}
		switch spec.Restart {
		case "":
			spec.Restart = Never
		case Always, OnFailure, Never:
		default:
			return fmt.Errorf("service %s: restart is %q, not always, on-failure or no", spec.Name, spec.Restart)
		}
		byName[spec.Name] = spec
	}
	const visiting, visited = 1, 2
	state := map[string]int{}
	var visit func(spec *Spec) error
	visit = func(spec *Spec) error {
		switch state[spec.Name] {
		case visiting:
			return fmt.Errorf("service %s waits for itself", spec.Name)
		case visited:
			return nil
		}
		state[spec.Name] = visiting
		for _, name := range spec.After {
			other := byName[name]
			if other == nil {
				return fmt.Errorf("service %s comes after %s, which is not there", spec.Name, name)
			}
			if err := visit(other); err != nil {
				return err
			}
		}
		state[spec.Name] = visited
		return nil
	}
	for i := range specs {
		if err := visit(&specs[i]); err != nil {
			return err
		}
	}
	return nil
}

func isName(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsFunc(name, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_')
	})
}
