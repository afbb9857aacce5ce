package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dalirun/dalirun/internal/bytesize"
	"github.com/dalirun/dalirun/internal/fsync"
	"github.com/dalirun/dalirun/internal/printable"
	"github.com/dalirun/dalirun/internal/store"
	"github.com/dalirun/dalirun/internal/userfile"
	"github.com/dalirun/dalirun/pipeline"
)

// archiveFlags are those of both commands that have to do with archives of a cache.
type archiveFlags struct {
	folderFlags
	origin string
	format format
}

func (f *archiveFlags) flags(a *App, cmd *cobra.Command) {
	f.folderFlags.flags(a, cmd)
	formatFlag(cmd, &f.format)
	cmd.Flags().StringVar(&f.origin, "origin", "", "a word for whose results these are, such as main (required)")
}

// check refuses an origin that is none.
func (f *archiveFlags) check() error {
	const hint = "name whose results these are, as in --origin main"
	if f.origin == "" {
		return pipeline.Usagef(hint, "--origin is required")
	}
	if err := store.CheckOrigin(f.origin); err != nil {
		return pipeline.Usagef(hint, "%s: %w", settingsOf(f.set).Origin("origin"), err)
	}
	return nil
}

func (a *App) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Carry the results of steps from one cache to another",
		Long: `cache export and cache import carry what steps made from one machine to another as one file, such as the cache
of a CI system is.`,
		Example: `  dalirun cache export --origin main dalirun-cache-main.tar.zst
  dalirun cache import --origin main dalirun-cache-main.tar.zst`,
	}
	cmd.AddCommand(a.exportCommand(), a.importCommand())
	return cmd
}

func (a *App) exportCommand() *cobra.Command {
	var f archiveFlags
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write all results of the cache into one file",
		Long: `export writes all results of the cache into one file, a tar compressed by zstd. The same results and origin are
the same bytes. Each byte is checked as it is read. A FILE that is there is replaced
if it is empty or such a file, and nothing else is. In a FILE that is a folder it makes dalirun-cache-ORIGIN.tar.zst.
What the cache notes of images and of workspaces, and TensorRT's timing caches, are not in it.`,
		Example: `  dalirun cache export --origin main dalirun-cache-main.tar.zst`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneFile(cmd, args); err != nil {
				return err
			}
			got, path, err := a.export(cmd.Context(), &f, args[0])
			if err != nil {
				return err
			}
			return f.format.write(a.Stdout, got, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "exported %s of origin %s, %s, to %s\n", printable.Count(got.Entries, "result"),
					got.Origin, bytesize.Format(got.Bytes), printable.Line(path))
				return err
			})
		},
	}
	f.flags(a, cmd)
	return cmd
}

func (a *App) export(ctx context.Context, f *archiveFlags, path string) (got store.Transfer, _ string, err error) {
	if err := f.check(); err != nil {
		return got, "", err
	}
	found, err := f.find(ctx)
	if err != nil {
		return got, "", err
	}
	a.folders = found.Named()
	cache, err := store.OpenReadOnly(cmp.Or(found.Below, found.Cache))
	if err != nil {
		return got, "", pipeline.Faultf(pipeline.Environment, "name another with --cache-dir", "export: %w", err)
	}
	if about, err := os.Stat(path); err == nil && about.IsDir() {
		path = filepath.Join(path, "dalirun-cache-"+f.origin+".tar.zst")
	}
	at, err := userfile.Replaceable(path, "archive of a cache", store.IsArchive)
	if _, other := errors.AsType[*userfile.OtherError](err); other {
		return got, "", pipeline.Usagef("name another file, or remove that one", "export: %w", err)
	}
	if err != nil {
		return got, "", userfile.MakeFault("export", err)
	}
	file, err := os.CreateTemp(filepath.Dir(at), "."+filepath.Base(at)+".*")
	if err != nil {
		return got, "", userfile.MakeFault("export", err)
	}
	got, err = cache.Export(ctx, file, f.origin)
	if errors.Is(err, pipeline.ErrDamaged) {
		err = pipeline.Faultf(pipeline.Environment, "a run that needs it makes it anew", "%w", err)
	}
	err = errors.Join(err, file.Chmod(archiveMode), file.Sync(), file.Close())
	if err == nil {
		err = fsync.Rename(file.Name(), at)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(file.Name()))
	}
	return got, path, err
}

// archiveMode lets a CI system's other users read an archive.
const archiveMode = 0o644

func (a *App) importCommand() *cobra.Command {
	var f archiveFlags
	var size string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Add the results in a file that export wrote to the cache",
		Long: `import adds the results in a file that export wrote to the cache, those that it lacks. Before anybody sees one
of them, the whole file is read, and each byte is found to be what its manifest says; a file that is cut off, altered,
or larger than --max-size is refused, and nothing of it is left.

It refuses a file of another origin than --origin. Results are programs that a server runs: what a pull request's job
made must not get into the cache of main's, and the origin keeps a file from being taken for another by mistake. It is
no signature: whoever can write a file can name any origin, so take files from where only jobs of that origin write.`,
		Example: `  dalirun cache import --origin main dalirun-cache-main.tar.zst`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneFile(cmd, args); err != nil {
				return err
			}
			got, err := a.importFile(cmd.Context(), &f, size, args[0])
			if err != nil {
				return err
			}
			return f.format.write(a.Stdout, got, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "imported %s of origin %s, %s; %d were there\n", printable.Count(got.Added, "result"),
					got.Origin, bytesize.Format(got.Bytes), got.Entries-got.Added)
				return err
			})
		},
	}
	f.flags(a, cmd)
	cmd.Flags().StringVar(&size, "max-size", "20GiB", "how much the file may have, unpacked")
	return cmd
}

func (a *App) importFile(ctx context.Context, f *archiveFlags, size, path string) (got store.Transfer, err error) {
	if err := f.check(); err != nil {
		return got, err
	}
	most, err := bytesize.Parse(size)
	if err != nil {
		return got, pipeline.Usagef(sizeHint, "%s: %w", settingsOf(f.set).Origin("max-size"), err)
	}
	found, err := f.find(ctx)
	if err != nil {
		return got, err
	}
	a.folders = found.Named()
	if found.Below != "" {
		return got, pipeline.Usagef("run it without", "%s: import writes into the cache",
			settingsOf(f.set).Origin("cache-readonly"))
	}
	file, err := userfile.OpenFile(path)
	if err != nil {
		return got, pipeline.Usagef("name a file that `dalirun cache export` wrote", "import: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	cache, err := found.OpenCache()
	if err != nil {
		return got, err
	}
	got, err = cache.Import(ctx, file, f.origin, most)
	hint := ""
	switch {
	case errors.Is(err, store.ErrOrigin):
		hint = "take a file of that origin; only where you trust the other one, ask for it by --origin"
	case errors.Is(err, store.ErrTooLarge):
		hint = "if it is what you expect, raise --max-size"
	case errors.Is(err, store.ErrArchive):
		hint = "get it anew from where it was exported"
	default:
		return got, err
	}
	return got, pipeline.Faultf(pipeline.Environment, hint, "import %s: %w", printable.Line(path), err)
}

// oneFile is for commands that take one file.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return pipeline.Usagef("`"+cmd.CommandPath()+" --help` has an example", "`%s` takes one file", cmd.CommandPath())
	}
	return nil
}
