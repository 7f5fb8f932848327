/** Runs the site of a build: `node site-main.ts MODULE OPTIONS`. Says where it is, and ends in order by SIGTERM. */
const [module, options] = process.argv.slice(2) as [string, string];
const { Site } = (await import(module)) as typeof import('@ashlar/site');
const site = await Site.start(JSON.parse(options));
process.once('SIGTERM', () => void site.stop().then(() => process.exit(0)));
process.stdout.write(`${JSON.stringify({ endpoint: site.endpoint, token: site.token })}\n`);
