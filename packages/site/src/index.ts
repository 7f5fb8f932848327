export { defaultRoot, defaultSite, siteLayout, socketDirectoryOf } from './layout.ts';
export { readConfig, type MachineConfig } from './machine/config.ts';
export { Machine } from './machine/machine.ts';
export { Site, type SiteOptions } from './site.ts';
export { joinCluster, type ClusterProgramOptions } from './machine/program.ts';
