/** The version of this build, as in the package.json of the tree (test/arch/version.test.ts): what a process says of itself. */
export const BUILD_VERSION = '0.2.0';
