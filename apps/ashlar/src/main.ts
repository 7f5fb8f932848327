import { run } from './cli/program.ts';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // Whoever read what is printed here has seen enough (`ashlar events --follow | head`).
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), process.env);
