/* A folder of a test's own, and files in it. */
#ifndef FLAT_TESTS_SUPPORT_FOLDER_H
#define FLAT_TESTS_SUPPORT_FOLDER_H

/** The folder's path, between folder_make() and folder_remove(). */
extern char folder[64];

/** Makes an empty folder. */
void folder_make(void);
/** Removes it with all that is in it. */
void folder_remove(void);

/** The path of a file in it. Valid until the next call. */
const char *path_of(const char *name);

/** Puts a file in its place by a rename: whatever the clock says, it is another file. */
void folder_put(const char *name, const char *text);

#endif
