export { compareCopies } from './site/compare.ts';
export { Rig, type RigOptions, type Settled } from './attack/rig.ts';
export { primaryServer, Site, type SiteOptions } from './site/site.ts';
