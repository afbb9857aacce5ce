// Protogen turns the .proto files of one folder into Go files in another.
//
// It does protoc's part with a compiler written in Go, so that a contributor
// needs nothing but Go, and runs the two standard plugins at the versions that
// this module pins: the same input gives the same bytes on every machine.
//
// Usage, from this folder: go run . PROTO_DIR GO_DIR.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: protogen PROTO_DIR GO_DIR")
		os.Exit(2)
	}
	if err := generate(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, protoDir, goDir string) error {
	files, err := compile(ctx, protoDir)
	if err != nil {
		return err
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = f.GetName()
	}
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: names,
		ProtoFile:      files,
		// One flat folder: the Go package is where the caller says.
		Parameter: proto.String("paths=source_relative"),
	})
	if err != nil {
		return err
	}
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		if err := run(ctx, plugin, request, goDir); err != nil {
			return fmt.Errorf("%s: %w", plugin, err)
		}
	}
	return nil
}

// compile returns the files of dir, each after the files that it imports: the
// order that plugins ask for.
func compile(ctx context.Context, dir string) ([]*descriptorpb.FileDescriptorProto, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no .proto file in %s", dir)
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = filepath.Base(path)
	}
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{dir}},
		SourceInfoMode: protocompile.SourceInfoStandard, // carries the comments over
	}
	compiled, err := compiler.Compile(ctx, names...)
	if err != nil {
		return nil, err
	}
	var ordered []*descriptorpb.FileDescriptorProto
	var add func(name string) error
	add = func(name string) error {
		if slices.ContainsFunc(ordered, func(f *descriptorpb.FileDescriptorProto) bool { return f.GetName() == name }) {
			return nil
		}
		file := compiled.FindFileByPath(name)
		if file == nil {
			return fmt.Errorf("%s is imported, but is not in %s", name, dir)
		}
		imports := file.Imports()
		for i := range imports.Len() {
			if err := add(imports.Get(i).Path()); err != nil {
				return err
			}
		}
		ordered = append(ordered, protoutil.ProtoFromFileDescriptor(file))
		return nil
	}
	for _, name := range names {
		if err := add(name); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// run gives a plugin its request and writes the files that it answers.
func run(ctx context.Context, plugin string, request []byte, goDir string) error {
	var stdout bytes.Buffer
	command := exec.CommandContext(ctx, "go", "tool", plugin)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(request), &stdout, os.Stderr
	if err := command.Run(); err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(stdout.Bytes(), &response); err != nil {
		return fmt.Errorf("read its answer: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		path := filepath.Join(goDir, filepath.Base(file.GetName()))
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
