import type { Site, SiteOptions } from '@ashlar/site';

/** Runs the site of a build: `node site-main.ts MODULE OPTIONS`. Says where it is, and ends in order by SIGTERM. */
const [module, options] = process.argv.slice(2) as [string, string];
const { Site: ItsSite } = (await import(module)) as { Site: typeof Site };
const site = await ItsSite.start(JSON.parse(options) as SiteOptions);
process.once('SIGTERM', () => void site.stop().then(() => process.exit(0)));
process.stdout.write(`${JSON.stringify({ endpoint: site.endpoint, token: site.token })}\n`);
